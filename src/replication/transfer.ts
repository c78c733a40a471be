// SPDX-License-Identifier: Apache-2.0
// One stream from here to a destination.
import type { Context } from '../volume/context.ts';
import type { StartProcess } from '../zfs/process.ts';
import { pump } from '../zfs/pump.ts';
import { isToken, parseEstimate, type SendEstimate, sendArguments } from '../zfs/send_arguments.ts';
import { ZfsError } from '../zfs/zfs_error.ts';
import type { Destination } from './destination.ts';
import type { SourceSnapshot, SourceVolume } from './holdings.ts';

/** ZFS reads what it would send, as far as that is not in memory. */
const ESTIMATE_MS = 120_000;

export interface Transfer {
  destination: Destination;
  key: string;
  /** Of `zfs send`. */
  args: readonly string[];
  rate?: number | undefined;
  force: boolean;
  signal: AbortSignal;
  onBytes(bytes: number): void;
}

export async function transfer(start: StartProcess, wish: Transfer): Promise<void> {
  const { destination, key, args, rate, force, signal, onBytes } = wish;
  const to = destination.receive(key, force);
  await pump(start('zfs', args), to, { rate, signal, onBytes });
}

export function stepArguments(
  { dataset, encrypted }: SourceVolume,
  to: SourceSnapshot,
  from: SourceSnapshot | undefined,
): string[] {
  const full = ({ name }: SourceSnapshot) => `${dataset}@${name}`;
  return sendArguments({ snapshot: full(to), from: from && full(from), encrypted });
}

/** The token comes from the destination, which may be another host. */
export function resumeArguments(token: string): string[] {
  if (isToken(token)) return ['send', '-t', token];
  throw new Error(`${JSON.stringify(token.slice(0, 40))} is no token of zfs receive`);
}

/** Undefined: ZFS does not tell. */
export async function estimate(
  context: Context,
  args: readonly string[],
): Promise<number | undefined> {
  const told = await dryRun(context, args).catch(() => undefined);
  return told?.bytes;
}

/** Undefined: the snapshot that was being sent is there no more. */
export async function readToken(
  context: Context,
  token: string,
): Promise<SendEstimate | undefined> {
  try {
    return await dryRun(context, resumeArguments(token));
  } catch (error) {
    if (error instanceof ZfsError && /no longer/.test(error.words)) return undefined;
    throw error;
  }
}

async function dryRun(context: Context, args: readonly string[]): Promise<SendEstimate> {
  const [verb = '', ...rest] = args;
  const options = { timeoutMs: ESTIMATE_MS };
  return parseEstimate(await context.run('zfs', [verb, '-nvP', ...rest], options));
}
