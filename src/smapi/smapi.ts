// SPDX-License-Identifier: Apache-2.0
// SMAPIv3 in the volume manager: takes the calls of the plugin's executables, has each carried out
// in its turn, and answers what XAPI takes.
import path from 'node:path';
import type { Logger } from '../log.ts';
import type { VolumeManager } from '../volume/manager_types.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import { type Call, formatResult, parseCall } from './call.ts';
import { DaemonLink } from './daemon_link.ts';
import { DiskPaths } from './datapath.ts';
import { Disks } from './disks.ts';
import { errorObject, SmapiError, toSmapiError } from './errors.ts';
import { Imports } from './imports.ts';
import { Guests } from './metrics/guests.ts';
import { Metrics } from './metrics/metrics.ts';
import { PoolFigures } from './metrics/pool_figures.ts';
import { Samples } from './metrics/samples.ts';
import { ServedDisks } from './metrics/served_disks.ts';
import { dataCalls } from './mirrors.ts';
import { pluginCalls } from './plugin_calls.ts';
import type { DatapathHandlers, VolumeHandlers } from './schema.ts';
import { type Answer, type RawCall, type SmapiServer, serveSmapi } from './server.ts';
import { smapiSocketPath } from './smapi_socket.ts';
import { srCalls } from './srs.ts';
import { Turns } from './turns.ts';
import { parseUri } from './uri.ts';
import { volumeCalls } from './volumes.ts';
import { WrittenMarks } from './written_marks.ts';

/** Where XAPI's collector of metrics and xenstored are, where it is not where they usually are. */
export interface MetricsPlaces {
  readonly folder?: string;
  readonly rrddSocket?: string;
  readonly openXenstore?: () => Promise<XenstoreClient>;
}

export interface SmapiOptions {
  readonly manager: VolumeManager;
  /** The manager's own, of its user alone. */
  readonly runtimeDir: string;
  /** Of the daemon that serves the disks. */
  readonly daemonRuntimeDir: string;
  readonly log: Logger;
  readonly metrics?: MetricsPlaces;
}

export async function startSmapi(options: SmapiOptions): Promise<SmapiServer> {
  const { runtimeDir, log } = options;
  const disks = new Disks(runtimeDir);
  const metrics = startMetrics(options, disks);
  const smapi = new Smapi(options, disks, () => metrics.problem());
  const server = await serveSmapi(smapiSocketPath(runtimeDir), (call) => smapi.answer(call), log);
  return {
    close: async () => {
      await Promise.all([server.close(), metrics.close()]);
    },
  };
}

function startMetrics(
  { manager, daemonRuntimeDir, log, metrics: places = {} }: SmapiOptions,
  disks: Disks,
): { problem(): string | undefined; close(): Promise<void> } {
  const { openXenstore, ...where } = places;
  const served = new ServedDisks(daemonRuntimeDir);
  const guests = new Guests(openXenstore);
  const pools = new PoolFigures(manager);
  const samples = new Samples({ served, guests, pools, disks });
  const told = new Metrics({ take: () => samples.take(), log, ...where });
  return {
    problem: () => told.problem,
    close: async () => {
      await told.close();
      await guests.close();
    },
  };
}

type Handler = (params: Record<string, unknown>) => Promise<unknown>;

export class Smapi {
  readonly #volume: VolumeHandlers;
  readonly #datapath: DatapathHandlers;
  readonly #turns = new Turns();
  readonly #log: Logger;

  constructor(
    { manager, runtimeDir, daemonRuntimeDir, log }: SmapiOptions,
    disks: Disks,
    metricsProblem: () => string | undefined = () => undefined,
  ) {
    this.#log = log;
    const daemon = new DaemonLink(daemonRuntimeDir);
    const nbdFolder = path.join(daemonRuntimeDir, 'nbd');
    const written = new WrittenMarks(runtimeDir);
    const paths = new DiskPaths({ manager, daemon, disks, written, nbdFolder, log });
    const socket = smapiSocketPath(runtimeDir);
    const known = { manager, daemon, disks, written, paths, log };
    const services = { ...known, socket, metricsProblem };
    this.#volume = {
      ...pluginCalls(services, 'volume'),
      ...srCalls(services),
      ...volumeCalls(services),
    };
    this.#datapath = {
      ...pluginCalls(services, 'datapath'),
      ...diskCalls(paths, new Imports(runtimeDir, written, log)),
      ...dataCalls(services),
    };
  }

  /** Never throws: what went wrong is the answer. */
  async answer(raw: RawCall): Promise<Answer> {
    const name = path.basename(raw.script);
    const started = performance.now();
    let call: Call | undefined;
    try {
      call = parseCall(raw);
      const text = formatResult(call, await this.#carryOut(call));
      this.#log.debug({ method: name, ms: Math.round(performance.now() - started) }, 'called');
      return { status: 0, text };
    } catch (error) {
      const failure = toSmapiError(error, call ? subjectOf(call) : '');
      const { code, params } = failure;
      this.#log.warn({ method: name, code, params, err: error }, 'a call of SMAPI has failed');
      return { status: 1, text: JSON.stringify(errorObject(failure)) };
    }
  }

  #carryOut(call: Call): Promise<unknown> {
    const { kind, method, params } = call;
    const handlers = kind === 'volume' ? this.#volume : this.#datapath;
    // The tables tie each method's schema to its handler; the compiler cannot follow the index.
    const handler = (handlers as unknown as Record<string, Handler>)[method];
    if (!handler) throw new SmapiError('Unimplemented', [method]);
    return this.#turns.take(takenBy(call), () => handler(params));
  }
}

function diskCalls(
  paths: DiskPaths,
  imports: Imports,
): Pick<DatapathHandlers, Extract<keyof DatapathHandlers, `Datapath.${string}`>> {
  const done = async (step: Promise<void>) => {
    await step;
    return null;
  };
  return {
    'Datapath.open': ({ uri, persistent }) => done(paths.open(uri, persistent)),
    'Datapath.attach': ({ uri, domain }) => paths.attach(uri, domain),
    'Datapath.activate': ({ uri, domain }) => done(paths.activate(uri, domain, 'write')),
    'Datapath.activate_readonly': ({ uri, domain }) => done(paths.activate(uri, domain, 'read')),
    'Datapath.import_activate': async ({ uri, domain }) =>
      imports.expect(await paths.activateForImport(uri, domain)),
    'Datapath.deactivate': ({ uri, domain }) => done(paths.deactivate(uri, domain)),
    'Datapath.detach': ({ uri, domain }) => done(paths.detach(uri, domain)),
    'Datapath.close': ({ uri }) => done(paths.close(uri)),
  };
}

/** Those who only look wait for nobody. */
const LOOKS = new Set([
  'Volume.stat',
  'Volume.list_changed_blocks',
  'SR.stat',
  'SR.ls',
  'SR.probe',
]);

/** The volumes and SRs that a call changes. Throws SmapiError. */
function takenBy({ method, params }: Call): string[] {
  if (LOOKS.has(method)) return [];
  const { sr, key, key2, snapshot, uri, uuid, operation } = params;
  if (typeof uri === 'string') return [nameOf(uri)];
  if (Array.isArray(operation)) return [nameOf(String(operation[1]))];
  const keys = [key, key2, snapshot].filter((one) => typeof one === 'string');
  if (keys.length > 0) return keys.map((one) => `volume ${String(sr)}/${one}`);
  if (method === 'Volume.create') return [];
  return [sr, uuid].filter((one) => typeof one === 'string').map((one) => `sr ${one}`);
}

function nameOf(uri: string): string {
  const { sr, key } = parseUri(uri);
  return `volume ${sr}/${key}`;
}

function subjectOf({ params }: Call): string {
  const { key, uri, sr } = params;
  return String(key ?? uri ?? sr ?? '');
}
