// SPDX-License-Identifier: Apache-2.0
// What the two plugins say of themselves.

import { packageVersion } from '../version.ts';
import type { PoolInfo, VolumeManager } from '../volume/manager_types.ts';
import type { PluginKind } from './call.ts';
import type { DaemonLink } from './daemon_link.ts';
import type { Disks } from './disks.ts';
import type { SmapiQuery, VolumeHandlers } from './schema.ts';
import { SR_CONFIGURATION } from './sr_config.ts';
import { SCHEME } from './uri.ts';
import { judgeXapiHost } from './xapi_findings.ts';
import { readXapiHost } from './xapi_host.ts';

/** XAPI's name of the SRs' type, which is also the end of the volume plugin's folder. */
export const SR_TYPE = 'ringdisk';

/** XAPI reads them when it starts, and passes over those it does not know. */
const VOLUME_FEATURES = [
  ...['SR_CREATE', 'SR_DELETE', 'SR_ATTACH', 'SR_DETACH', 'SR_SCAN', 'SR_PROBE', 'SR_UPDATE'],
  ...['VDI_CREATE', 'VDI_DESTROY', 'VDI_ATTACH', 'VDI_DETACH', 'VDI_ACTIVATE'],
  ...['VDI_ACTIVATE_READONLY', 'VDI_DEACTIVATE', 'VDI_UPDATE', 'VDI_SNAPSHOT', 'VDI_CLONE'],
  ...[
    'VDI_RESIZE',
    'VDI_RESIZE_ONLINE',
    'VDI_REVERT',
    'VDI_CONFIG_CBT',
    'VDI_COMPOSE',
    'VDI_MIRROR',
    'VDI_MIRROR_IN',
  ],
  ...['VDI_ATTACH_OFFLINE', 'LARGE_VDI', 'THIN_PROVISIONING'],
];
/** The only ones that are looked for in a datapath plugin. */
const DATAPATH_FEATURES = ['NONPERSISTENT', 'VDI_MIRROR_IN'];

type PluginMethod = 'Plugin.query' | 'Plugin.diagnostics' | 'Plugin.ls';

interface PluginServices {
  readonly manager: VolumeManager;
  readonly daemon: DaemonLink;
  readonly disks: Disks;
  /** Where the plugins find us. */
  readonly socket: string;
  /** Why XAPI gets no metrics; undefined: it gets them, or has no collector. */
  readonly metricsProblem: () => string | undefined;
}

export function pluginCalls(
  services: PluginServices,
  kind: PluginKind,
): Pick<VolumeHandlers, PluginMethod> {
  return {
    'Plugin.query': async () => query(kind),
    'Plugin.diagnostics': () => diagnostics(services),
    'Plugin.ls': async () => {
      if (kind === 'datapath') return [];
      return (await services.manager.listPools()).map(({ pool }) => pool);
    },
  };
}

function query(kind: PluginKind): SmapiQuery {
  const isVolume = kind === 'volume';
  return {
    plugin: isVolume ? SR_TYPE : SCHEME,
    name: isVolume ? 'ringdisk: ZFS volumes' : 'ringdisk: disks of guests',
    description: isVolume
      ? 'SRs are ZFS pools, disks are ZFS volumes, snapshots and clones are ones of ZFS'
      : 'Serves the disks of guests from user space, and exports them by NBD',
    vendor: 'ringdisk',
    copyright: 'Apache-2.0',
    version: packageVersion(),
    required_api_version: '5.0',
    features: isVolume ? VOLUME_FEATURES : DATAPATH_FEATURES,
    configuration: isVolume ? { ...SR_CONFIGURATION } : {},
    required_cluster_stack: [],
  };
}

/** For people, in a bug report: each part says so itself where it cannot be had. */
async function diagnostics(services: PluginServices): Promise<string> {
  const { manager, daemon, disks } = services;
  const parts = await Promise.all([
    part('Wrong on this host', () => whatIsWrong(services)),
    part('Pools', async () => (await manager.listPools(true)).map(describePool)),
    part('Daemon', async () => {
      const { ringdisk, pid, backends } = await daemon.callNow('version', {});
      return [`ringdisk ${ringdisk}, process ${pid}, serves ${backends.join(', ')}`];
    }),
    part('Exports', async () => {
      const { exports } = await daemon.callNow('exportList', {});
      return exports.map(
        ({ name, state, clients, source, error = '' }) =>
          `${name}: ${state}, ${clients} clients, ${source} ${error}`,
      );
    }),
    part('Attached', async () =>
      disks.all().map(([uri, { attached, active, mirror }]) => {
        const users = active.map(({ domain, mode }) => `${domain} (${mode})`).join(', ');
        const to = mirror === undefined ? '' : `, ${mirror} is mirrored`;
        return `${uri}: for ${attached.join(', ')}; active for ${users || 'nobody'}${to}`;
      }),
    ),
  ]);
  return [`ringdisk ${packageVersion()}`, ...parts].join('\n');
}

/** As `ringdisk doctor` says it, of XAPI's side. */
async function whatIsWrong(services: PluginServices): Promise<string[]> {
  const { daemon, socket, metricsProblem } = services;
  const [facts, known] = await Promise.all([
    readXapiHost(),
    daemon.callNow('version', {}).catch(() => undefined),
  ]);
  const running = { daemon: known?.ringdisk };
  const findings = judgeXapiHost(facts, running, socket, packageVersion());
  const wrong = findings.filter(({ status }) => status !== 'ok');
  const problem = metricsProblem();
  return [
    ...wrong.map(({ check, found, breaks, remedy }) => `${check}: ${found}. ${breaks}: ${remedy}`),
    ...(problem === undefined ? [] : [`metrics: ${problem}`]),
  ];
}

async function part(title: string, lines: () => Promise<string[]>): Promise<string> {
  try {
    const found = await lines();
    return [`${title}:`, ...(found.length > 0 ? found : ['none']).map(indent)].join('\n');
  } catch (error) {
    return `${title}:\n${indent(`cannot be told: ${(error as Error).message}`)}`;
  }
}

function indent(line: string): string {
  return `  ${line}`;
}

function describePool({ pool, state, store, freeBytes, totalBytes }: PoolInfo): string {
  const what = store ? `SR ${store.uuid}${store.owned ? '' : ', adopted'}` : 'no SR';
  return `${pool}: ${state}, ${what}, ${freeBytes} of ${totalBytes} bytes free`;
}
