// SPDX-License-Identifier: Apache-2.0
// Replication: what ZFS sends goes from this command's standard output to another's standard input,
// by ssh or whatever connects hosts. The manager says what is called what; no data passes it.
import { spawn } from 'node:child_process';
import { pipeline } from 'node:stream/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import * as v from 'valibot';
import { isJobId } from '../replication/job.ts';
import { Labels } from '../replication/labels.ts';
import { parseSize } from '../target/size.ts';
import { storeOf } from '../volume/names.ts';
import { MINE_ALONE, PROPERTY } from '../volume/properties.ts';
import { ENVIRONMENT } from '../zfs/command.ts';
import { limiter } from '../zfs/limiter.ts';
import { isToken, receiveArguments, sendArguments } from '../zfs/send_arguments.ts';
import { UsageError } from './exit_code.ts';
import { printResult } from './output.ts';
import { formatTable } from './table.ts';
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
      ? await argumentsFor(snapshot, options)
      : ['send', '-t', checkedToken(options.resume)];
  const child = spawn('zfs', args, { env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = exitOf(child);
  await pipeline(child.stdout, limiter(options.limit), process.stdout);
  await ended;
}

async function argumentsFor(snapshot: string | undefined, options: SendOptions) {
  if (snapshot === undefined) throw new UsageError('Name a snapshot, such as tank/vm1@monday.');
  return withManager(options, async (client) => {
    const { volume } = await client.call('statVolume', await resolveVolume(client, snapshot));
    if (volume.kind !== 'snapshot') throw new UsageError(`${snapshot} is no snapshot.`);
    const from = options.from === undefined ? undefined : await datasetOf(client, options.from);
    const { dataset, encrypted } = volume;
    return sendArguments({ snapshot: dataset, from, encrypted });
  });
}

async function datasetOf(client: Parameters<typeof resolveVolume>[0], text: string) {
  const { volume } = await client.call('statVolume', await resolveVolume(client, text));
  return volume.dataset;
}

function checkedToken(token: string): string {
  if (isToken(token)) return token;
  throw new UsageError('The token is not what volume receive --token tells.');
}

interface ReceiveOptions extends ManagerOptions {
  force?: boolean;
  token?: boolean;
  abort?: boolean;
  replica?: string;
  label?: string;
  labels?: string;
}

export function addReceive(parent: Command): void {
  const command = parent
    .command('receive')
    .description('make a volume of what volume send writes, or bring it up to date')
    .argument('<volume>', VOLUME_ARGUMENT)
    .option('--force', 'forget what was written to it since its newest snapshot')
    .option('--token', 'only tell how to go on with one that was cut off')
    .option('--abort', 'forget what has come of one that was cut off')
    .option('--replica <job>', 'note that this job, as POOL/NAME, brings it up to date')
    .addOption(new Option('--label <snapshot>', 'only name what a job has sent').hideHelp())
    .addOption(new Option('--labels <base64url>', 'the names, as JSON').hideHelp())
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
  if (options.label !== undefined) {
    const { label: snapshot, labels = '' } = options;
    const wish = { pool, key, snapshot, labels: readLabels(labels) };
    await withManager(options, (client) => client.call('labelReplica', wish));
    return;
  }
  if (options.abort) {
    await exitOf(zfs(['receive', '-A', dataset], 'ignore'));
    return;
  }
  // The pool has a store, or the manager says what is wrong.
  await withManager(options, (client) => client.call('listVolumes', { pool }));
  const { force, replica } = options;
  const settings = replica === undefined ? {} : { [PROPERTY.replica]: checkedJob(replica) };
  const args = receiveArguments({ dataset, force, without: MINE_ALONE, settings });
  await exitOf(zfs(args, 'inherit'));
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

function readLabels(text: string): Labels {
  try {
    return v.parse(Labels, JSON.parse(Buffer.from(text, 'base64url').toString('utf8')));
  } catch {
    throw new UsageError('--labels is not what a job of this version sends.');
  }
}

export function addReceiving(parent: Command): void {
  const command = parent
    .command('receiving')
    .description('list what has begun to arrive in a pool and was cut off, or still arrives')
    .argument('<pool>', 'its name or GUID')
    .addHelpText(
      'after',
      '\nWith --json, all volumes with their snapshots, as jobs of other hosts ask for them.',
    );
  addManagerOptions(command).action(async (pool: string, options: ManagerOptions) => {
    const result = await withManager(options, (client) => client.call('receiving', { pool }));
    const unfinished = result.volumes.filter(({ arriving, token }) => arriving || token);
    printResult('volume receiving', options, result, () =>
      unfinished.length === 0
        ? 'Nothing was cut off.'
        : formatTable(
            [
              { title: 'VOLUME', value: ({ key }) => `${pool}/${key}` },
              { title: 'JOB', value: ({ replicaOf = '-' }) => replicaOf },
              { title: 'SNAPSHOTS', right: true, value: (one) => String(one.snapshots.length) },
              { title: 'GOES ON', value: ({ token }) => (token ? 'by its token' : 'just now') },
            ],
            unfinished,
          ),
    );
  });
}

function checkedJob(job: string): string {
  if (isJobId(job)) return job;
  throw new UsageError(`${JSON.stringify(job)} is no name of a job, such as tank/nightly.`);
}

function parseRate(text: string): number {
  const bytes = parseSize(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw new InvalidArgumentError('It is no rate such as 20M.');
}
