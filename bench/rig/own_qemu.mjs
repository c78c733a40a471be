// SPDX-License-Identifier: Apache-2.0
// A QEMU of its own that serves one disk of a guest: the settings of its image's cache are ours,
// and xl knows nothing of it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { waitFor } from '../../test/rig/dom0/shell.mjs';

const PROGRAM = '/usr/libexec/xen-qemu-system-i386';
const SOCKET = '/run/own-qemu.sock';
const ENDED_MS = 60_000;

export class OwnQemu {
  /** @type {OwnQemu | undefined} there is one at a time */
  static current;
  #child;
  #ended;

  /** @param {number} domid @param {string} vdev @param {string} blockdev JSON */
  static async start(domid, vdev, blockdev) {
    await rm(SOCKET, { force: true });
    OwnQemu.current = new OwnQemu(domid, vdev, blockdev);
  }

  /** @param {number} domid @param {string} vdev @param {string} blockdev */
  constructor(domid, vdev, blockdev) {
    const { 'node-name': node } = JSON.parse(blockdev);
    const machine = ['-M', 'xenpv', '-xen-attach', '-xen-domid', String(domid)];
    const nothing = ['-nodefaults', '-display', 'none', '-qmp', `unix:${SOCKET},server,nowait`];
    const disk = ['-blockdev', blockdev, '-device', `xen-disk,id=disk,vdev=${vdev},drive=${node}`];
    const stdio = /** @type {const} */ (['ignore', 'inherit', 'inherit']);
    this.#child = spawn(PROGRAM, [...machine, ...nothing, ...disk], { stdio });
    this.#ended = once(this.#child, 'exit');
  }

  /** The guest lets go of the disk first. */
  async stop() {
    OwnQemu.current = undefined;
    const gone = deviceGone();
    await Promise.race([gone, this.#ended]);
    this.#child.kill();
    await waitFor('QEMU to end', () => this.#child.exitCode ?? this.#child.signalCode, {
      timeoutMs: ENDED_MS,
    });
  }
}

/** By QEMU's own protocol; ends when it says that the disk is gone. @returns {Promise<void>} */
function deviceGone() {
  return new Promise((resolve, reject) => {
    const socket = connect(SOCKET);
    let text = '';
    socket.on('error', reject).on('data', (chunk) => {
      text += chunk;
      if (!text.includes('DEVICE_DELETED')) return;
      socket.destroy();
      resolve();
    });
    socket.write('{"execute":"qmp_capabilities"}\n');
    socket.write('{"execute":"device_del","arguments":{"id":"disk"}}\n');
  });
}
