// SPDX-License-Identifier: Apache-2.0
// `ringdisk xapi` and `ringdisk manage` as they are run: what is installed reaches the manager.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PLUGIN_ROOT } from '../../src/smapi/layout.ts';
import { readXapiHost } from '../../src/smapi/xapi_host.ts';
import { ringdisk, type Started, start } from '../support/serve_process.ts';
import { runScript } from '../support/smapi_host.ts';
import { temporaryFolder } from '../support/temporary_folder.ts';

let folder: string;
let destdir: string;
let runtimeDir: string;
let manager: Started | undefined;
beforeEach(() => {
  folder = temporaryFolder();
  [destdir, runtimeDir] = [path.join(folder, 'root'), path.join(folder, 'run')];
});
afterEach(async () => {
  manager?.child.kill('SIGTERM');
  await manager?.ended;
  manager = undefined;
  rmSync(folder, { recursive: true, force: true });
});

function xapi(action: 'install' | 'remove') {
  return ringdisk('xapi', action, '--destdir', destdir, '--runtime-dir', runtimeDir);
}

/** All files below, without what is in them. */
function files(): string[] {
  const all = readdirSync(destdir, { recursive: true, withFileTypes: true });
  return all.filter((one) => !one.isDirectory()).map((one) => path.join(one.parentPath, one.name));
}

async function startManager(): Promise<void> {
  const places = ['--runtime-dir', runtimeDir, '--daemon-runtime-dir', path.join(folder, 'none')];
  manager = start(['manage', ...places]);
  const { child, ended } = manager;
  const lines = createInterface({ input: child.stderr as NodeJS.ReadableStream });
  const ready = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      if (line.includes('is ready')) resolve();
    });
  });
  const died = ended.then(({ stderr }) => Promise.reject(new Error(stderr)));
  died.catch(() => {});
  await Promise.race([ready, died]);
}

test('what is installed reaches the manager, and is taken away without a trace', async () => {
  mkdirSync(destdir);
  const installed = await xapi('install');
  expect(installed).toMatchObject({ status: 0, stderr: '' });
  await startManager();
  const script = (name: string) => path.join(destdir, PLUGIN_ROOT, name);
  for (const plugin of ['volume/org.xen.xapi.storage.ringdisk', 'datapath/ringdisk']) {
    const { stdout } = await runScript(script(`${plugin}/Plugin.Query`), ['--json'], '{"dbg":"d"}');
    expect(JSON.parse(stdout)).toMatchObject({ plugin: 'ringdisk', required_api_version: '5.0' });
  }
  // It is told what this host lacks, and of what is there it is told nothing wrong.
  const facts = await readXapiHost(destdir);
  const socket = path.join(runtimeDir, 'smapi.sock');
  expect(facts).toMatchObject({ missing: [], isOurs: true, socket });
  expect(facts.python).toMatch(/^3\.\d+$/);
  const diagnostics = script('volume/org.xen.xapi.storage.ringdisk/Plugin.diagnostics');
  const { stdout: told } = await runScript(diagnostics, ['--json'], '{"dbg":"d"}');
  expect(JSON.parse(told)).toMatch(/^ringdisk .*\nWrong on this host:\n/s);
  // A second time is the first.
  const before = files();
  expect((await xapi('install')).status).toBe(0);
  expect(files()).toEqual(before);
  const removed = await xapi('remove');
  expect(removed.status).toBe(0);
  const left = files().filter(
    (file) => !/\/ringdisk(-network|-manage|-import@?)?\.(service|socket)$/.test(file),
  );
  expect(left).toEqual([]);
  // XAPI's daemon watches these two, and never again once they have gone.
  for (const root of ['volume', 'datapath']) expect(existsSync(script(root))).toBe(true);
  expect((await xapi('remove')).stdout).toContain('There was nothing of it.');
}, 120_000);

test('the daemon is told to serve XAPI’s kind of disks, beside its own configuration', async () => {
  await xapi('install');
  const dropIn = path.join(destdir, 'etc/systemd/system/ringdisk.service.d/xapi.conf');
  expect(readFileSync(dropIn, 'utf8')).toMatch(/^ExecStart=\nExecStart=ringdisk serve .*qdisk$/m);
}, 60_000);
