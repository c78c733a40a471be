// SPDX-License-Identifier: Apache-2.0
// Replication: what ZFS sends goes from this command's standard output to another's standard input,
// by ssh or whatever connects hosts. The manager says what is called what; no data passes it.
import { spawn } from 'node:child_process';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { parseSize } from '../target/size.ts';
import { storeOf } from '../volume/names.ts';
import { MINE_ALONE } from '../volume/properties.ts';
import { ENVIRONMENT } from '../zfs/command.ts';
import { UsageError } from './exit_code.ts';
import {
  addManagerOptions,
  type ManagerOptions,
  parseVolume,
  resolveVolume,
  SNAPSHOT_ARGUMENT,
  VOLUME_ARGUMENT,
  withManager,
} from './with_manager.ts';

interface SendOptions extends ManagerOptions {
  from?: string;
  resume?: string;
  limit?: number;
}

export function addSend(parent: Command): void {
  const command = parent
    .command('send')
    .description('write a snapshot to standard output, for volume receive on another host or pool')
    .argument('[snapshot]', SNAPSHOT_ARGUMENT)
    .option('--from <snapshot>', 'only what has changed since this one, which is there already')
    .option('--resume <token>', 'go on with what was cut off, as volume receive --token tells')
    .option('--limit <rate>', 'bytes a second, such as 20M', parseRate)
    .addHelpText(
      'after',
      '\nAn encrypted volume is sent as it is: the other side needs no key to store it.\n\n' +
        'Example:\n' +
        '  ringdisk volume send tank/vm1@monday | ssh other ringdisk volume receive backup/vm1\n' +
        '  ringdisk volume send tank/vm1@tuesday --from tank/vm1@monday |\n' +
        '    ssh other ringdisk volume receive backup/vm1',
    );
  addManagerOptions(command).action(send);
}

async function send(snapshot: string | undefined, options: SendOptions): Promise<void> {
  if (process.stdout.isTTY) throw new UsageError('A volume is not sent to a terminal.');
  const args =
    options.resume === undefined
      ? await sendArguments(snapshot, options)
      : ['send', '-t', checkedToken(options.resume)];
  const child = spawn('zfs', args, { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = exitOf(child);
  await pipeline(child.stdout, limiter(options.limit), process.stdout);
  await ended;
}

async function sendArguments(snapshot: string | undefined, options: SendOptions) {
  if (snapshot === undefined) throw new UsageError('Name a snapshot, such as tank/vm1@monday.');
  return withManager(options, async (client) => {
    const { volume } = await client.call('statVolume', await resolveVolume(client, snapshot));
    if (volume.kind !== 'snapshot') throw new UsageError(`${snapshot} is no snapshot.`);
    const since = options.from === undefined ? [] : ['-i', await datasetOf(client, options.from)];
    const how = volume.encrypted ? ['-w'] : ['-c', '-e', '-L'];
    return ['send', '-p', ...how, ...since, volume.dataset];
  });
}

async function datasetOf(client: Parameters<typeof resolveVolume>[0], text: string) {
  const { volume } = await client.call('statVolume', await resolveVolume(client, text));
  return volume.dataset;
}

function checkedToken(token: string): string {
  if (/^[0-9a-f-]{16,4096}$/.test(token)) return token;
  throw new UsageError('The token is not what volume receive --token tells.');
}

interface ReceiveOptions extends ManagerOptions {
  force?: boolean;
  token?: boolean;
  abort?: boolean;
}

export function addReceive(parent: Command): void {
  const command = parent
    .command('receive')
    .description('make a volume of what volume send writes, or bring it up to date')
    .argument('<volume>', VOLUME_ARGUMENT)
    .option('--force', 'forget what was written to it since its newest snapshot')
    .option('--token', 'only tell how to go on with one that was cut off')
    .option('--abort', 'forget what has come of one that was cut off')
    .addHelpText(
      'after',
      '\nIt has the name, the id and the properties of the one that was sent.\n\n' +
        'Example: after a connection that broke\n' +
        '  token=$(ssh other ringdisk volume receive backup/vm1 --token)\n' +
        '  ringdisk volume send --resume $token |\n' +
        '    ssh other ringdisk volume receive backup/vm1',
    );
  addManagerOptions(command).action(receive);
}

async function receive(text: string, options: ReceiveOptions): Promise<void> {
  const { pool, key } = parseVolume(text);
  const dataset = `${storeOf(pool)}/${key}`;
  if (options.token) {
    await exitOf(zfs(['get', '-H', '-o', 'value', 'receive_resume_token', dataset], 'ignore'));
    return;
  }
  if (options.abort) {
    await exitOf(zfs(['receive', '-A', dataset], 'ignore'));
    return;
  }
  // The pool has a store, or the manager says what is wrong.
  await withManager(options, (client) => client.call('listVolumes', { pool }));
  const without = MINE_ALONE.flatMap((property) => ['-x', property]);
  const force = options.force ? ['-F'] : [];
  await exitOf(zfs(['receive', '-s', '-u', ...force, ...without, dataset], 'inherit'));
}

function zfs(args: string[], input: 'ignore' | 'inherit') {
  return spawn('zfs', args, { env: ENVIRONMENT, stdio: [input, 'inherit', 'inherit'] });
}

function exitOf(child: ReturnType<typeof spawn>): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`zfs ended with ${signal ?? code}; see above`));
    });
  });
}

/** Lets so many bytes a second through. */
function limiter(rate: number | undefined): Transform {
  let due = performance.now();
  return new Transform({
    async transform(chunk: Buffer, _, done) {
      if (rate !== undefined) {
        due = Math.max(due, performance.now()) + (chunk.length / rate) * 1000;
        await sleep(due - performance.now());
      }
      done(null, chunk);
    },
  });
}

function parseRate(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw new InvalidArgumentError('It is no rate such as 20M.');
}
