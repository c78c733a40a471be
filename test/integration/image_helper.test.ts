// SPDX-License-Identifier: Apache-2.0
// What serves an image, by itself: started, confined, found again, ended. NBD's own clients look
// at it.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Helper, type ImageWish } from '../../src/formats/helper.ts';
import { startOfProcess } from '../../src/formats/helper_record.ts';
import { isImageFormat } from '../../src/formats/image_spec.ts';
import { Images } from '../../src/formats/images.ts';
import { HELPER_COMMAND, helperSocket, startHelper } from '../../src/formats/start_helper.ts';
import { watchHelper } from '../../src/formats/watch_helper.ts';
import { parseTarget } from '../../src/target/target_spec.ts';
import { serveHttps } from '../support/https_image.ts';
import { makeImage, nbdUri, qemuIo, run, runAside } from '../support/images.ts';
import { MAIN } from '../support/serve_process.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

const log = pino({ level: 'silent' });
let folder: string;
let helpers: Helper[];

beforeEach(() => {
  folder = temporaryFolder();
  helpers = [];
});
afterEach(async () => {
  await Promise.all(helpers.map((helper) => helper.end()));
  rmSync(folder, { recursive: true, force: true });
});

function helperOf(target: string, readOnly = false): Helper {
  const { kind = '', path: image } = parseTarget(target);
  if (!isImageFormat(kind)) throw new Error(`${target} is no image`);
  const wish: ImageWish = { format: kind, image, readOnly };
  const helper = new Helper(wish, folder, log);
  helpers.push(helper);
  return helper;
}

async function serve(target: string, readOnly = false): Promise<Helper> {
  const helper = helperOf(target, readOnly);
  await helper.start();
  return helper;
}

const file = (name: string) => path.join(folder, name);

function pidOf(helper: Helper): number {
  const { pid } = helper.info();
  if (pid === undefined) throw new Error('it does not run');
  return pid;
}

/** Of /proc/PID/status. */
function statusOf(pid: number, key: string): string | undefined {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(text)?.[1];
}

describe('an image', () => {
  it.each([
    ['qcow2', 'qcow2'],
    ['vhd', 'vpc'],
    ['vhdx', 'vhdx'],
    ['vmdk', 'vmdk'],
  ])('%s is written and read', async (format, driver) => {
    const image = makeImage(driver, file('a b,c'), '64M');
    const helper = await serve(`${format}:${image}`);
    const said = qemuIo(helper.socket, 'write -P 7 1M 64k', 'flush', 'read -P 7 1M 64k');
    expect(said).not.toMatch(/fail/i);
    expect(helper.info()).toMatchObject({
      program: 'qemu-storage-daemon',
      restarts: 0,
      chain: [{ format: driver, path: image, isDevice: false }],
    });
    await helper.end();
    expect(run('qemu-io', '-f', driver, '-c', 'read -P 7 1M 64k', image)).not.toMatch(/fail/i);
    expect(readdirSync(file('images')).filter((name) => !name.endsWith('.lock'))).toEqual([]);
  });

  it('of three is written at its top alone', async () => {
    makeImage('raw', file('a.raw'), '16M');
    run('qemu-io', '-f', 'raw', '-c', 'write -P 1 0 1M', file('a.raw'));
    // Relative names are relative to who names them.
    makeImage('qcow2', file('b.qcow2'), undefined, ['raw', 'a.raw']);
    run('qemu-io', '-c', 'write -P 2 1M 1M', file('b.qcow2'));
    makeImage('qcow2', file('c.qcow2'), undefined, ['qcow2', 'b.qcow2']);
    const before = [file('a.raw'), file('b.qcow2')].map((one) => run('md5sum', one));
    const helper = await serve(`qcow2:l2-cache-size=1M:${file('c.qcow2')}`);
    const commands = ['write -P 3 2M 1M', 'read -P 1 0 1M', 'read -P 2 1M 1M', 'read -P 3 2M 1M'];
    expect(qemuIo(helper.socket, ...commands)).not.toMatch(/fail/i);
    expect(helper.info().chain.map((node) => `${node.format} ${node.path}`)).toEqual([
      `qcow2 ${file('c.qcow2')}`,
      `qcow2 ${file('b.qcow2')}`,
      `raw ${file('a.raw')}`,
    ]);
    run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', nbdUri(helper.socket), file('copy'));
    await helper.end();
    run('qemu-img', 'compare', '-f', 'qcow2', '-F', 'raw', file('c.qcow2'), file('copy'));
    expect([file('a.raw'), file('b.qcow2')].map((one) => run('md5sum', one))).toEqual(before);
  });

  it('gives back what is discarded', async () => {
    const image = makeImage('qcow2', file('a.qcow2'), '64M');
    const helper = await serve(`qcow2:${image}`);
    qemuIo(helper.socket, 'write -P 7 0 32M', 'flush');
    const full = statSync(image).blocks * 512;
    qemuIo(helper.socket, 'discard 0 32M', 'flush');
    expect(full).toBeGreaterThan(32 * 1024 ** 2);
    expect(statSync(image).blocks * 512).toBeLessThan(4 * 1024 ** 2);
  });

  it.each([
    'with, commas and spaces',
    '-leading dash',
    'a\nnewline',
    'quote"\'$(touch x)`',
    'json:{}',
    'nbd:x',
    'ä€😀',
  ])('called %j is served', async (name) => {
    const image = path.join(folder, name);
    makeImage('qcow2', file('plain'), '16M');
    run('mv', '--', file('plain'), image);
    const helper = await serve(`qcow2:${image}`);
    expect(qemuIo(helper.socket, 'write -P 7 0 64k', 'read -P 7 0 64k')).not.toMatch(/fail/i);
  });
});

describe('an image elsewhere', () => {
  it('is read by https, from a server with a certificate that is known', async () => {
    const content = randomBytes(1024 ** 2);
    const server = await serveHttps(folder, content);
    try {
      const helper = await serve(`cainfo=${server.ca}:${server.url}`, true);
      expect(helper.info()).toMatchObject({ program: 'nbdkit', chain: [] });
      await runAside('nbdcopy', nbdUri(helper.socket), file('copy'));
      expect(readFileSync(file('copy')).equals(content)).toBe(true);
      const wrong = helperOf(server.url, true);
      await wrong.start();
      // nbdkit asks the server when a client comes.
      await expect(runAside('nbdinfo', nbdUri(wrong.socket))).rejects.toThrow();
      expect(server.requests()).toBeGreaterThan(0);
    } finally {
      await server.close();
    }
  });
});

/** As old versions of qemu-img left it: the header's extension that says it becomes unknown. */
function forgetBaseFormat(image: string): void {
  const bytes = readFileSync(image);
  const at = bytes.indexOf(Buffer.from('e2792aca', 'hex'));
  bytes.writeUInt32BE(0x01020304, at);
  writeFileSync(image, bytes);
}

describe('is refused with a sentence', () => {
  const refused = (target: string) => helperOf(target).start();

  it('where it is not there', async () => {
    await expect(refused(`qcow2:${file('a')}`)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('where it is none', async () => {
    writeFileSync(file('a'), 'x'.repeat(65536));
    await expect(refused(`qcow2:${file('a')}`)).rejects.toThrow(/not in qcow2 format/);
  });

  it('where another program uses it', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    const first = await serve(`qcow2:${image}`);
    const second = refused(`qcow2:l2-cache-size=1M:${image}`);
    await expect(second).rejects.toThrow(
      /image: Failed to get "write" lock\. Another program uses it/,
    );
    await expect(second).rejects.toMatchObject({ code: 'EBUSY' });
    expect(qemuIo(first.socket, 'write -P 7 0 64k')).not.toMatch(/fail/i);
  });

  it('where the program is missing', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    const { PATH = '' } = process.env;
    process.env['PATH'] = '';
    try {
      await expect(refused(`qcow2:${image}`)).rejects.toThrow(
        /qemu-img is not installed.*qemu-utils/,
      );
      await expect(refused('https://localhost/a')).rejects.toThrow(/nbdkit is not installed/);
    } finally {
      process.env['PATH'] = PATH;
    }
  });

  it('where it is based on what nobody says the format of', async () => {
    makeImage('qcow2', file('guest.raw'), '16M');
    const image = makeImage('qcow2', file('a'), undefined, ['qcow2', file('guest.raw')]);
    forgetBaseFormat(image);
    await expect(refused(`qcow2:${image}`)).rejects.toThrow(/does not say in which format/);
    const alone = await serve(`qcow2:backing=none:${image}`);
    expect(qemuIo(alone.socket, 'write -P 7 0 64k')).not.toMatch(/fail/i);
  });

  it.each([
    ['nbd://localhost/disk', /no file of this host/],
    ['json:{"driver":"null-co"}', /no file of this host/],
  ])('where it is based on %s', async (base, message) => {
    const image = makeImage('qcow2', file('a'), '16M');
    run('qemu-img', 'rebase', '-u', '-F', 'raw', '-b', base, image);
    await expect(refused(`qcow2:${image}`)).rejects.toThrow(message);
  });

  it('where it keeps its data elsewhere', async () => {
    const data = file('data');
    run('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${data}`, file('a'), '16M');
    await expect(refused(`qcow2:${file('a')}`)).rejects.toThrow(/keeps its data in/);
  });

  it('where it is based on itself', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    run('qemu-img', 'rebase', '-u', '-F', 'qcow2', '-b', image, image);
    await expect(refused(`qcow2:${image}`)).rejects.toThrow(/on itself/);
  }, 30_000);
});

describe('what serves it', () => {
  it('has no capability, a session of its own and a socket for our eyes only', async () => {
    const helper = await serve(`qcow2:${makeImage('qcow2', file('a'), '16M')}`);
    const pid = pidOf(helper);
    for (const set of ['CapPrm', 'CapEff', 'CapInh', 'CapAmb']) {
      expect(statusOf(pid, set)).toMatch(/^0+$/);
    }
    expect(statusOf(pid, 'NoNewPrivs')).toBe('1');
    expect(statSync(helper.socket).mode & 0o777).toBe(0o600);
    const [, , , , , session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ');
    expect(session).toBe(String(pid));
  });

  it('crashes, and is started again', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    const helper = await serve(`qcow2:${image}`);
    qemuIo(helper.socket, 'write -P 7 0 64k', 'flush');
    const before = pidOf(helper);
    process.kill(before, 'SIGKILL');
    await expect.poll(() => helper.info().restarts, { timeout: 10_000 }).toBe(1);
    expect(pidOf(helper)).not.toBe(before);
    expect(helper.info().error).toBeUndefined();
    expect(qemuIo(helper.socket, 'read -P 7 0 64k')).not.toMatch(/fail/i);
  });

  it('is not started again on another image of that name', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    const helper = await serve(`qcow2:${image}`);
    run('mv', image, file('mine'));
    makeImage('qcow2', image, '16M');
    process.kill(pidOf(helper), 'SIGKILL');
    await expect.poll(() => helper.info().error ?? '').toMatch(/another image/);
    run('mv', file('mine'), image);
    await expect.poll(() => helper.info().restarts, { timeout: 20_000 }).toBe(1);
  }, 30_000);

  it('nor where it is based on another one by now', async () => {
    const base = makeImage('raw', file('base'), '16M');
    const image = makeImage('qcow2', file('a'), undefined, ['raw', base]);
    const helper = await serve(`qcow2:${image}`);
    run('mv', base, file('mine'));
    makeImage('raw', base, '16M');
    process.kill(pidOf(helper), 'SIGKILL');
    await expect.poll(() => helper.info().error ?? '').toMatch(/based on another image/);
    run('mv', file('mine'), base);
    await expect.poll(() => helper.info().restarts, { timeout: 20_000 }).toBe(1);
  }, 30_000);

  it('is found again by whoever comes next', async () => {
    const image = makeImage('qcow2', file('a'), '16M');
    const first = await serve(`qcow2:${image}`);
    const pid = pidOf(first);
    first.leave();
    const found = Helper.adopt(first.key, folder, log);
    if (!found) throw new Error('it was not found');
    helpers.push(found);
    await found.start();
    expect(found.info()).toEqual({ ...first.info(), pid, chain: found.info().chain });
    expect(found.identity).toBe(first.identity);
    await found.end();
    await expect.poll(() => startOfProcess(pid)).toBeUndefined();
    expect(Helper.adopt(first.key, folder, log)).toBeUndefined();
  });

  it('is ended where nobody asks for it any more', async () => {
    const first = await serve(`qcow2:${makeImage('qcow2', file('a'), '16M')}`);
    const pid = pidOf(first);
    first.leave();
    const nothing = { openTarget: () => Promise.reject(new Error('nobody asks')) };
    const images = new Images(nothing, folder, log);
    images.begin(300);
    expect(startOfProcess(pid)).toBeDefined();
    await expect.poll(() => startOfProcess(pid), { timeout: 10_000 }).toBeUndefined();
    await images.stop();
  });

  it('talks without end: what nobody reads is lost, and it does not wait', async () => {
    const files = { log: file('log'), lock: file('lock') };
    const talk = `
      const native = require('node-gyp-build')(process.cwd());
      native.beginHelper('${files.log}', '${files.lock}');
      process.stdin.once('data', () => {
        const fs = require('node:fs');
        const text = ('x'.repeat(5000) + '\\n').repeat(100);
        for (let i = 0; i < 20; i++) { try { fs.writeSync(2, text); } catch {} }
        process.exit(0);
      });
      require('node:fs').writeSync(1, 'ready');`;
    const child = spawn(process.execPath, ['-e', talk], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    const record = { pid: child.pid ?? 0, startedAt: startOfProcess(child.pid ?? 0) ?? '' };
    const lines: string[] = [];
    const watch = watchHelper(record, files, (line) => lines.push(line));
    child.stdin.end('go');
    await watch.ended;
    expect(lines.length).toBeGreaterThan(0);
    expect(watch.lines.length).toBeLessThanOrEqual(8);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(500);
  });

  it('opens nothing but what is named', () => {
    const [own, secret, named] = [file('own'), file('secret'), file('named')];
    mkdirSync(own);
    writeFileSync(secret, 'secret');
    writeFileSync(named, 'named');
    const tries = [`cat ${named}`, `cat ${secret}`, `echo x > ${named}`, 'echo end'];
    const look = `exec > ${own}/seen 2>&1; ${tries.join('; ')}`;
    const helper = {
      program: '/bin/sh',
      args: ['sh', '-c', look],
      readable: [named],
      writable: [],
      folder: own,
      network: false,
    };
    const become = `
      const native = require('node-gyp-build')(process.cwd());
      native.beginHelper('${file('log')}', '${file('lock')}');
      native.becomeHelper(JSON.parse(process.argv[1]));`;
    run(process.execPath, '-e', become, JSON.stringify(helper));
    const seen = readFileSync(path.join(own, 'seen'), 'utf8');
    expect(seen).toMatch(/^named.*end$/ms);
    expect(seen).toMatch(/secret: Permission denied/);
    expect(seen).toMatch(/cannot create .*named: Permission denied/);
    expect(readFileSync(named, 'utf8')).toBe('named');
  });
});

describe('under systemd', () => {
  it('is started by the connection to its socket', async ({ skip }) => {
    const socket = helperSocket(folder, 'qcow2');
    const command = [process.execPath, MAIN, HELPER_COMMAND];
    const args = ['--listen', socket, '--accept', '--inetd', '--setenv=PATH', ...command];
    const systemd = spawn('systemd-socket-activate', args, { stdio: 'ignore' });
    const missing = await Promise.race([
      once(systemd, 'error').then(() => true),
      expect.poll(() => existsSync(socket)).toBe(true),
    ]);
    if (missing === true) skip('there is no systemd-socket-activate');
    try {
      const helper = await serve(`qcow2:${makeImage('qcow2', file('a'), '16M')}`);
      expect(qemuIo(helper.socket, 'write -P 7 0 64k', 'read -P 7 0 64k')).not.toMatch(/fail/i);
      const [, , , parent] = readFileSync(`/proc/${pidOf(helper)}/stat`, 'utf8').split(' ');
      expect(parent).toBe(String(systemd.pid));
      await expect(serve(`qcow2:${file('b')}`)).rejects.toMatchObject({ code: 'ENOENT' });
      await helper.end();
      // A daemon that is busy takes its time to say the next word.
      const image = makeImage('qcow2', file('c'), '16M');
      const wish = {
        version: 1,
        runtimeDir: folder,
        format: 'qcow2',
        image,
        readOnly: false,
      } as const;
      await startHelper(wish, () => sleep(500));
      await (await serve(`qcow2:${image}`)).end();
    } finally {
      systemd.kill();
    }
  });

  it('is started by the daemon where nobody listens there any more', async () => {
    const socket = helperSocket(folder, 'qcow2');
    const server = createServer().listen(socket);
    await once(server, 'listening');
    run('ln', socket, file('kept'));
    server.close();
    await once(server, 'close');
    run('mv', file('kept'), socket);
    await serve(`qcow2:${makeImage('qcow2', file('a'), '16M')}`);
  });
});
