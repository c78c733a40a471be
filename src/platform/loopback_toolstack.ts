// SPDX-License-Identifier: Apache-2.0
// What xl does for a disk, on the loopback machine: the nodes it writes, in its order and with its
// permissions, and how it takes them away.
import type { XenstoreClient, XenstoreRequests } from '../xenstore/client.ts';
import { backendDir, frontendDir } from '../xenstore/paths.ts';
import { waitForNode } from './wait_for_node.ts';

const BACKEND_DOMID = 0;

export interface VbdSpec {
  /** Folder under backend/; "vbd3" as xl's backendtype=tap has it. */
  kind?: string;
  domid: number;
  devid: number;
  /** What the guest calls it: "xvda". */
  vdev: string;
  /** As xl writes it, "aio:/path", or any spec that ringdisk knows. */
  params: string;
  mode?: 'r' | 'w';
  deviceType?: 'disk' | 'cdrom';
  /** Node discard-enable; absent: not written. */
  discardEnable?: boolean;
}

/** Where a disk's nodes are. */
export interface VbdPaths {
  readonly domid: number;
  readonly backend: string;
  readonly frontend: string;
}

/** Both ends' nodes, in one transaction; from then on the backend may answer. */
export async function createVbd(xenstore: XenstoreClient, spec: VbdSpec): Promise<VbdPaths> {
  const { kind = 'vbd3', domid, devid } = spec;
  const backend = backendDir(BACKEND_DOMID, { kind, domid, devid });
  const frontend = frontendDir(domid, devid);
  await xenstore.transaction(async (requests) => {
    await writeAll(requests, frontend, frontendNodes(spec, backend), domid, BACKEND_DOMID);
    await writeAll(requests, backend, backendNodes(spec, frontend), BACKEND_DOMID, domid);
  });
  return { domid, backend, frontend };
}

function frontendNodes(spec: VbdSpec, backend: string): Record<string, string> {
  return {
    backend,
    'backend-id': String(BACKEND_DOMID),
    state: '1',
    'virtual-device': String(spec.devid),
    'device-type': spec.deviceType ?? 'disk',
  };
}

function backendNodes(spec: VbdSpec, frontend: string): Record<string, string> {
  const discard = spec.discardEnable;
  return {
    frontend,
    'frontend-id': String(spec.domid),
    online: '1',
    removable: '0',
    bootable: '1',
    state: '1',
    dev: spec.vdev,
    type: 'tap',
    mode: spec.mode ?? 'w',
    'device-type': spec.deviceType ?? 'disk',
    params: spec.params,
    ...(discard === undefined ? {} : { 'discard-enable': discard ? '1' : '0' }),
  };
}

async function writeAll(
  requests: XenstoreRequests,
  folder: string,
  nodes: Record<string, string>,
  owner: number,
  reader: number,
): Promise<void> {
  await requests.mkdir(folder);
  await requests.setPermissions(folder, [
    { domid: owner, access: 'n' },
    { domid: reader, access: 'r' },
  ]);
  for (const [name, value] of Object.entries(nodes)) {
    await requests.write(`${folder}/${name}`, value);
  }
}

/** xl block-detach: asks, waits for the backend to close, takes the nodes away. */
export async function detachVbd(xenstore: XenstoreClient, vbd: VbdPaths): Promise<void> {
  await xenstore.transaction(async (requests) => {
    await requests.write(`${vbd.backend}/online`, '0');
    if ((await requests.read(`${vbd.backend}/state`)) !== '6') {
      await requests.write(`${vbd.backend}/state`, '5');
    }
  });
  const closed = (state: string | undefined) => state === '6' || state === undefined;
  await waitForNode(xenstore, `${vbd.backend}/state`, closed, `${vbd.backend} closes`);
  await removeVbd(xenstore, vbd);
}

/** What is left of a destroyed domain: nothing. */
export async function removeVbd(xenstore: XenstoreClient, vbd: VbdPaths): Promise<void> {
  await xenstore.transaction(async (requests) => {
    await requests.remove(vbd.backend);
    await requests.remove(vbd.frontend);
  });
}
