// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { ControlClient } from '../control/client.ts';
import { ControlError, DaemonUnreachableError } from '../control/errors.ts';
import { controlSocketPath, type Methods } from '../control/protocol.ts';
import { printResult } from './output.ts';
import { giveUpPrivileges } from './privileges.ts';
import { addDaemonOptions, type DaemonOptions, withDaemon } from './with_daemon.ts';

type Version = Methods['version']['result'];

const SUCCESSOR_MS_MAX = 30_000;
const LOOK_MS = 50;

export function addUpgrade(program: Command): void {
  const command = program
    .command('upgrade')
    .description('replace the running daemon by this version; the guests go on')
    .addHelpText(
      'after',
      '\nThe running daemon ends at once, and the new one takes its disks over: for the guests\n' +
        'it is a pause of some hundred milliseconds. Where systemd started the daemon, systemd\n' +
        'starts the new one (systemctl restart ringdisk does the same, without the check).\n' +
        'Elsewhere this command itself becomes the daemon, with the options of the old one.\n\n' +
        'It refuses where this version does not understand what the running one leaves.\n\n' +
        'Example:\n  ringdisk upgrade',
    );
  addDaemonOptions(command).action(upgrade);
}

async function upgrade(options: DaemonOptions): Promise<void> {
  // Before the running daemon is told to end, since this one may become the next.
  await giveUpPrivileges();
  const { before, managed, serve } = await withDaemon(options, async (client) => {
    const version = await client.call('version', {});
    await refuseUnlessUnderstood(version);
    return { before: version, ...(await client.call('handover', {})) };
  });
  if (managed) {
    const after = await successor(options.runtimeDir, before.pid);
    const result = { before: described(before), after: described(after) };
    return printResult('upgrade', options, result, () => textOf(before, after));
  }
  const result = { before: described(before), becomes: 'this process' };
  printResult('upgrade', options, result, () => `Going on as daemon in place of ${name(before)}.`);
  // Loaded when it is run, as in serve.ts.
  const { serve: becomeDaemon } = await import('./serve_process.ts');
  await becomeDaemon(serve);
}

/** Before anything is asked of the daemon: a refusal changes nothing. */
async function refuseUnlessUnderstood(daemon: Version): Promise<void> {
  const { native } = await import('../datapath/binding.ts');
  const { RECORD_VERSIONS_READ } = await import('../vbd/record.ts');
  const problem = whyNot(daemon, {
    journalVersions: [native.version().journalVersion],
    recordVersions: RECORD_VERSIONS_READ,
  });
  if (problem) throw new ControlError('EPROTO', problem);
}

/** A sentence if this version cannot go on with what the daemon leaves behind. */
export function whyNot(
  daemon: Pick<Version, 'ringdisk' | 'journalVersion' | 'recordVersion'>,
  ours: { journalVersions: readonly number[]; recordVersions: readonly number[] },
): string | undefined {
  const differing = [
    ['journals', daemon.journalVersion, ours.journalVersions] as const,
    ['records', daemon.recordVersion, ours.recordVersions] as const,
  ].filter(([, theirs, mine]) => !mine.includes(theirs));
  if (differing.length === 0) return undefined;
  const what = differing.map(
    ([of, theirs, mine]) =>
      `it keeps ${of} of version ${theirs}, this one reads ${mine.join(' and ')}`,
  );
  return (
    'This version cannot take over the disks of the running daemon ' +
    `(ringdisk ${daemon.ringdisk}): ${what.join('; ')}. Nothing was changed. ` +
    'Move the guests away or shut them down, then restart the daemon.'
  );
}

/** The next daemon, as soon as it answers. */
async function successor(runtimeDir: string, oldPid: number): Promise<Version> {
  const deadline = performance.now() + SUCCESSOR_MS_MAX;
  for (;;) {
    const version = await askVersion(runtimeDir);
    if (version && version.pid !== oldPid) return version;
    if (performance.now() > deadline) {
      throw new DaemonUnreachableError(
        `The daemon ended, but no new one answers after ${SUCCESSOR_MS_MAX / 1000} s: ` +
          'see journalctl -u ringdisk. The guests wait; start it: systemctl start ringdisk.',
      );
    }
    await sleep(LOOK_MS);
  }
}

async function askVersion(runtimeDir: string): Promise<Version | undefined> {
  try {
    const client = await ControlClient.connect(controlSocketPath(runtimeDir));
    return await client.call('version', {}).finally(() => client.close());
  } catch (error) {
    if (error instanceof DaemonUnreachableError) return undefined;
    throw error;
  }
}

function described({ ringdisk, pid }: Version): { ringdisk: string; pid: number } {
  return { ringdisk, pid };
}

function name({ ringdisk, pid }: Version): string {
  return `ringdisk ${ringdisk} (process ${pid})`;
}

function textOf(before: Version, after: Version): string {
  return `${name(before)} has handed its disks over to ${name(after)}.`;
}
