// SPDX-License-Identifier: Apache-2.0
// ZFS's commands about one pool with so many volumes, as they print: each is a process that does
// nothing, and text that is ready. What ZFS itself takes is not in what is measured over it.
import { runCommand } from '../../dist/zfs/command.js';

const POOL = 'tank';
const GIB = 1024 ** 3;

/** @param {number} index */
export function keyOf(index) {
  return `6b1e3c1e-0000-4000-8000-${String(index).padStart(12, '0')}`;
}

/** @param {number} index @returns {Record<string, [value: string, source: string]>} */
function propertiesOf(index) {
  const own = (/** @type {string} */ value) => /** @type {[string, string]} */ ([value, 'local']);
  const told = (/** @type {string} */ value) => /** @type {[string, string]} */ ([value, '-']);
  return {
    type: told('volume'),
    creation: told('1796000000'),
    createtxg: told(String(1000 + index)),
    guid: told(String(10 ** 15 + index)),
    volsize: own(String(20 * GIB)),
    volblocksize: ['16384', 'default'],
    used: told(String(3 * GIB)),
    referenced: told(String(3 * GIB)),
    written: told('0'),
    refreservation: ['0', 'default'],
    keystatus: ['none', 'default'],
    snapdev: ['hidden', 'default'],
    compression: ['lz4', `inherited from ${POOL}`],
    'ringdisk:uuid': own(keyOf(index)),
    'ringdisk:name': own(`disk ${index}`),
    'ringdisk:description': own('made for a benchmark'),
    'ringdisk:keys': own('{"vdi-type":"user","content_id":"5c1f0a2b"}'),
    'ringdisk:sharable': own('off'),
    'ringdisk:cbt': own('off'),
  };
}

const STORE = {
  type: ['filesystem', '-'],
  creation: ['1796000000', '-'],
  createtxg: ['1', '-'],
  used: [String(GIB), '-'],
  available: [String(100 * GIB), '-'],
  'ringdisk:uuid': ['5c1f0a2b-0000-4000-8000-000000000001', 'local'],
  'ringdisk:owned': ['on', 'local'],
};

/** @param {number} volumes @returns {import('../../dist/zfs/command.js').RunCommand} */
export function fakeZfs(volumes) {
  /** @type {Map<string, Record<string, any>>} */
  const all = new Map([[`${POOL}/ringdisk`, STORE]]);
  for (let n = 0; n < volumes; n++) all.set(`${POOL}/ringdisk/${keyOf(n)}`, propertiesOf(n));
  /** What was printed once is printed again: it is not this that is measured. */
  const printed = new Map();
  return async (program, args) => {
    await runCommand('true', []);
    if (program === 'zpool') return `${POOL}\t1\tONLINE\t${100 * GIB}\t0\t0\toff\n`;
    const [verb = '', ...rest] = args;
    if (verb === 'list') return `${rest.at(-1)}\n`;
    const recursive = rest.includes('-r');
    const firstName = rest.findIndex((word) => word.includes(','), rest.indexOf('-o') + 2);
    const properties = rest.findLast((word) => word.startsWith('type,')) ?? rest[firstName] ?? '';
    const names = recursive ? [...all.keys()] : rest.slice(rest.indexOf(properties) + 1);
    const key = recursive ? 'all' : names.join();
    const text =
      printed.get(key) ??
      names
        .flatMap((name) => properties.split(',').map((property) => line(all, name, property)))
        .join('');
    if (recursive) printed.set(key, text);
    return text;
  };
}

/** @param {Map<string, Record<string, any>>} all @param {string} name @param {string} property */
function line(all, name, property) {
  const [value, source] = all.get(name)?.[property] ?? ['-', '-'];
  return `${name}\t${property}\t${value}\t${source}\n`;
}
