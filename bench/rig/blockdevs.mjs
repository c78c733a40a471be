// SPDX-License-Identifier: Apache-2.0
// What to give the -blockdev of a QEMU that serves an image itself: what our helper is given.
import { helperCommand } from '../../dist/formats/helper_command.js';
import { parseImagePath } from '../../dist/formats/image_spec.js';
import { IMAGE_PATH, PEERS } from './plan.mjs';

/**
 * @param {string[]} peers
 * @returns {Record<string, string>} JSON, of those that are QEMUs of their own
 */
export function blockdevsOf(peers) {
  const own = peers.filter((peer) => PEERS[peer].backend === 'own');
  return Object.fromEntries(own.map((peer) => [peer, blockdevOf(PEERS[peer].options ?? '')]));
}

/** @param {string} options of a target of ours */
function blockdevOf(options) {
  const spec = parseImagePath('qcow2', options + IMAGE_PATH);
  const nodes = [{ format: 'qcow2', path: IMAGE_PATH, isDevice: false }];
  const { args } = helperCommand(spec, nodes, false, { socket: '/', pidFile: '/' });
  return args[args.indexOf('--blockdev') + 1] ?? '';
}
