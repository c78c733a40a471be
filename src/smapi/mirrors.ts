// SPDX-License-Identifier: Apache-2.0
// Live migration's part of a datapath plugin: the guest's disk is mirrored to where XAPI says. Its
// end there is a proxy that takes one connection, once, and is opened while we are told of it.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WireMirror, WireVbd } from '../control/protocol.ts';
import type { Logger } from '../log.ts';
import { parseTarget } from '../target/target_spec.ts';
import { parseDomid } from '../xenstore/paths.ts';
import { type DaemonLink, isError } from './daemon_link.ts';
import type { DiskPaths } from './datapath.ts';
import type { Disks } from './disks.ts';
import { backendFailure, SmapiError } from './errors.ts';
import type { DatapathHandlers, SmapiOperation } from './schema.ts';

type DataCalls = {
  [M in keyof DatapathHandlers as M extends `Data.${string}` ? M : never]: DatapathHandlers[M];
};
type Status = Awaited<ReturnType<DataCalls['Data.stat']>>;

interface MirrorServices {
  readonly daemon: DaemonLink;
  readonly disks: Disks;
  readonly paths: DiskPaths;
  readonly log: Logger;
}

/** XAPI opens the socket in a thread that it has just started. */
const SOCKET_MS = 10_000;
/** XAPI asks again as soon as it has an answer: this is what slows it. */
const STAT_MS = 1000;
const LOOK_MS = 100;
/** A reader wants a fraction: neither 0 nor 1. */
const LITTLE = 0.0001;

export function dataCalls(services: MirrorServices): DataCalls {
  const stop = async ({ operation }: { operation: SmapiOperation }) => {
    await cancel(services, uriOf(operation));
    return null;
  };
  return {
    'Data.mirror': async ({ uri, domain, remote }) => {
      await mirror(services, uri, domain, remote);
      return ['MirrorV1', uri];
    },
    'Data.stat': ({ operation }) => waitForNews(services, uriOf(operation)),
    'Data.cancel': stop,
    'Data.destroy': stop,
    'Data.ls': async () =>
      services.disks
        .all()
        .flatMap(([uri, state]): SmapiOperation[] =>
          state.mirror === undefined ? [] : [['MirrorV1', uri]],
        ),
  };
}

/** One of a volume at a time, so its URI is the operation's name. */
function uriOf([tag, name]: SmapiOperation): string {
  if (tag === 'MirrorV1') return name;
  throw new SmapiError('SR_BACKEND_FAILURE', ['', 'OPERATION_UNKNOWN', `${tag} ${name}`]);
}

async function mirror(services: MirrorServices, uri: string, domain: string, remote: string) {
  const { daemon, paths, log } = services;
  const vbd = await diskOf(services, uri, domain);
  const deadline = performance.now() + SOCKET_MS;
  await untilSocketIsThere(remote, deadline);
  // What others write would be missing there; readers may stay.
  await paths.setMirror(uri, vbd.name);
  try {
    await start(daemon, vbd.name, remote, deadline);
  } catch (error) {
    await paths.setMirror(uri, undefined).catch((problem: unknown) => {
      log.warn({ uri, err: problem }, 'its clients cannot write yet');
    });
    throw error;
  }
}

/** A socket that is there may not be listened to yet. */
async function start(daemon: DaemonLink, vbd: string, target: string, deadline: number) {
  for (;;) {
    try {
      await daemon.call('mirror', { vbd, action: 'start', target, mode: 'copy' });
      return;
    } catch (error) {
      if (!isError(error, 'ECONNREFUSED') || performance.now() > deadline) throw error;
    }
    await sleep(LOOK_MS);
  }
}

/** Of the guest; the disk must be in use, for only what its guest writes is mirrored. */
async function diskOf({ daemon, paths }: MirrorServices, uri: string, domain: string) {
  const exported = await paths.exportedAs(uri);
  const { vbds } = exported ? await daemon.call('list', {}) : { vbds: [] };
  const domid = parseDomid(domain);
  const found = vbds.find(
    (vbd: WireVbd) => vbd.target?.spec === exported && (domid === undefined || vbd.domid === domid),
  );
  if (found) return found;
  throw backendFailure(46, `no guest of domain ${domain} uses it: only a disk in use is mirrored`);
}

async function untilSocketIsThere(remote: string, deadline: number): Promise<void> {
  const { kind, path } = parseTarget(remote);
  if (kind !== 'nbd') throw new SmapiError('SR_BACKEND_FAILURE', ['', 'REMOTE_INVALID', remote]);
  const socket = path.replace(/:exportname=.*$/s, '');
  while (!existsSync(socket) && performance.now() < deadline) await sleep(LOOK_MS);
}

async function waitForNews(services: MirrorServices, uri: string): Promise<Status> {
  const deadline = performance.now() + STAT_MS;
  for (;;) {
    const status = await look(services, uri);
    if (status.failed || status.complete || performance.now() >= deadline) return status;
    await sleep(LOOK_MS);
  }
}

/** Failed is never complete as well: XAPI would believe the second word. */
async function look(services: MirrorServices, uri: string): Promise<Status> {
  const { daemon, disks, paths } = services;
  const vbd = disks.get(uri)?.mirror;
  const now = vbd === undefined ? undefined : await mirrorOf(daemon, vbd);
  if (!now || now.state === 'failed') {
    if (vbd !== undefined) await paths.setMirror(uri, undefined);
    return { failed: true, complete: false };
  }
  if (now.state === 'following' && now.mode === 'copy' && vbd !== undefined) {
    await daemon.call('mirror', { vbd, action: 'set', mode: 'sync' });
  }
  if (now.state === 'ready') return { failed: false, complete: true };
  const done = now.bytes === 0 ? 0 : (now.bytes - now.bytesBehind) / now.bytes;
  return { failed: false, complete: false, progress: Math.min(Math.max(done, LITTLE), 1 - LITTLE) };
}

/** undefined: it is over, or its disk has gone. */
async function mirrorOf(daemon: DaemonLink, vbd: string): Promise<WireMirror | undefined> {
  try {
    return (await daemon.call('mirror', { vbd, action: 'status' })).mirror;
  } catch (error) {
    if (isError(error, 'MIRROR_NONE') || isError(error, 'VBD_UNKNOWN')) return undefined;
    throw error;
  }
}

async function cancel({ daemon, disks, paths }: MirrorServices, uri: string): Promise<void> {
  const vbd = disks.get(uri)?.mirror;
  if (vbd === undefined) return;
  if (await mirrorOf(daemon, vbd)) await daemon.call('mirror', { vbd, action: 'stop' });
  await paths.setMirror(uri, undefined);
}
