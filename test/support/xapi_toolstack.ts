// SPDX-License-Identifier: Apache-2.0
// What xenopsd writes for a disk of SMAPIv3, and how it takes it away, as it was seen to do both
// (xen-api e2ee48d with a xenstored of its own).

import type { VbdPaths } from '../../src/platform/loopback_toolstack.ts';
import { waitForNode } from '../../src/platform/wait_for_node.ts';
import type { SmapiBackend } from '../../src/smapi/schema.ts';
import type { Permission, XenstoreClient, XenstoreRequests } from '../../src/xenstore/client.ts';
import { backendDir, frontendDir } from '../../src/xenstore/paths.ts';

const DEVID = 51712;
/** On a host that does much else. */
const OFFER_MS = 60_000;

export interface XapiDisk extends VbdPaths {
  readonly privateKeys: string;
}

/** All nodes in one transaction; then its block script says a word. */
export async function plugXapiDisk(
  xenstore: XenstoreClient,
  { implementations }: SmapiBackend,
  domid: number,
  mode: 'r' | 'w' = 'w',
): Promise<XapiDisk> {
  const xenDisk = implementations.find(([tag]) => tag === 'XenDisk')?.[1];
  const nbd = implementations.find(([tag]) => tag === 'Nbd')?.[1];
  if (!xenDisk || !('extra' in xenDisk) || !nbd || !('uri' in nbd)) throw new Error('no disk');
  const { backend_type: kind, extra } = xenDisk;
  const backend = backendDir(0, { kind, domid, devid: DEVID });
  const frontend = frontendDir(domid, DEVID);
  const privateKeys = `/xapi/vm-${domid}/private/${kind}/${DEVID}`;
  await xenstore.transaction(async (requests) => {
    await requests.mkdir(frontend);
    await requests.setPermissions(frontend, permissions(domid, 0));
    await requests.mkdir(backend);
    await requests.setPermissions(backend, permissions(0, domid));
    const front = { backend, 'backend-id': '0', state: '1', 'device-type': 'disk' };
    await writeAll(requests, frontend, { ...front, 'virtual-device': String(DEVID) });
    const marks = Object.entries(extra).map(([name, value]) => [`sm-data/${name}`, value]);
    await writeAll(requests, backend, {
      ...{ frontend, 'frontend-id': String(domid), online: '1', removable: '1', state: '1' },
      ...{ dev: 'xvda', type: 'phy', mode, params: nbd.uri, 'qemu-params': xenDisk.params },
      ...{ 'sm-data/backend-kind': kind, ...Object.fromEntries(marks) },
    });
    await writeAll(requests, privateKeys, { 'backend-kind': kind, 'backend-id': '0' });
  });
  const socket = nbd.uri.replace(/^nbd:unix:|:exportname=.*/g, '');
  await writeAll(xenstore, backend, {
    'physical-device-path': socket,
    'hotplug-status': 'connected',
  });
  const isOffered = (state: string | undefined) => state === '2';
  await waitForNode(xenstore, `${backend}/state`, isOffered, `${backend} is offered`, OFFER_MS);
  return { domid, backend, frontend, privateKeys };
}

/** Asks for the end, and waits for the frontend alone. */
export async function askForUnplug(xenstore: XenstoreClient, disk: XapiDisk): Promise<void> {
  await xenstore.transaction(async (requests) => {
    await writeAll(requests, disk.backend, { online: '0', state: '5' });
  });
}

/** Takes the nodes away at once, whatever the backend is doing. */
export async function takeNodesAway(xenstore: XenstoreClient, disk: XapiDisk): Promise<void> {
  await xenstore.transaction(async (requests) => {
    for (const folder of [disk.backend, disk.frontend, disk.privateKeys]) {
      await requests.remove(folder);
    }
  });
}

/** In a hard shutdown: online=0, no frontend, no hotplug-status, and state is not touched. */
export async function unplugHard(xenstore: XenstoreClient, disk: XapiDisk): Promise<void> {
  await xenstore.transaction(async (requests) => {
    await requests.write(`${disk.backend}/online`, '0');
    await requests.remove(disk.frontend);
    await requests.remove(`${disk.backend}/hotplug-status`);
  });
}

function permissions(owner: number, reader: number): Permission[] {
  return [
    { domid: owner, access: 'n' },
    { domid: reader, access: 'r' },
  ];
}

async function writeAll(
  requests: XenstoreRequests,
  folder: string,
  nodes: Record<string, string>,
): Promise<void> {
  for (const [name, value] of Object.entries(nodes)) {
    await requests.write(`${folder}/${name}`, value);
  }
}
