// SPDX-License-Identifier: Apache-2.0
// The only place that builds or parses xenstore paths: the syntax every path obeys, and the paths
// of block devices.
import { XenstoreError } from './client.ts';

/** xenstored's limits, bytes; it answers EINVAL beyond them. */
export const absolutePathBytesMax = 3072;
const relativePathBytesMax = 2048;

/** The highest id of a real domain; Xen reserves 0x7FF0 and up. */
export const domidMax = 0x7fef;
export const devidMax = 0x7fff_ffff;

const pathCharacters = /^[A-Za-z0-9_@/-]+$/;
const kindCharacters = /^[A-Za-z0-9_-]{1,32}$/;

/** One VBD's backend: which folder under `backend`, which frontend domain, which device of it. */
export interface BackendId {
  kind: string;
  domid: number;
  devid: number;
}

/** Throws EINVAL, in xenstored's place, for a path it would not take; NUL bytes among others. */
export function checkPath(path: string): void {
  const bytesMax = path.startsWith('/') ? absolutePathBytesMax : relativePathBytesMax;
  if (path.length > bytesMax) throw invalid(path, `is longer than ${bytesMax} bytes`);
  if (!pathCharacters.test(path)) throw invalid(path, 'is not made of letters, digits and -/_@');
  if (path.startsWith('@')) throw invalid(path, 'is special: it can be watched, nothing else');
  if (path.includes('//')) throw invalid(path, 'has an empty component');
  if (path.endsWith('/') && path !== '/') throw invalid(path, 'ends in a slash');
}

/** As checkPath, but lets "@releaseDomain" and the like pass. */
export function checkWatchPath(path: string): void {
  checkPath(path.startsWith('@') ? path.slice(1) : path);
}

function invalid(path: string, why: string): XenstoreError {
  const shown = path.length > 80 ? `${path.slice(0, 80)}...` : path;
  return new XenstoreError('EINVAL', `xenstore path ${JSON.stringify(shown)} ${why}`);
}

/** The path as seen from the root; a relative one starts at the home of `domid`. */
export function absolutePath(path: string, domid: number): string {
  return path.startsWith('/') || path.startsWith('@') ? path : `${domainPath(domid)}/${path}`;
}

/** The path of a child, also of the root. */
export function childPath(parent: string, name: string): string {
  return parent === '/' ? `/${name}` : `${parent}/${name}`;
}

/** The node above; undefined for the root. */
export function parentPath(path: string): string | undefined {
  if (path === '/') return undefined;
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** The last component; "" for the root. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** Both absolute. A path is at or below itself. */
export function isAtOrBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root === '/' ? '/' : `${root}/`);
}

/** Decimal digits without sign, space or leading zero, 0..max; undefined for anything else. */
export function parseDecimal(text: string, max: number): number | undefined {
  if (!/^(0|[1-9][0-9]{0,9})$/.test(text)) return undefined;
  const number = Number(text);
  return number <= max ? number : undefined;
}

export function parseDomid(text: string): number | undefined {
  return parseDecimal(text, domidMax);
}

export function parseDevid(text: string): number | undefined {
  return parseDecimal(text, devidMax);
}

/** The home of a domain. */
export function domainPath(domid: number): string {
  return `/local/domain/${checkedNumber('domid', domid, domidMax)}`;
}

/** Where a toolstack puts every backend of this kind: one folder per frontend domain. */
export function backendKindDir(backendDomid: number, kind: string): string {
  if (!kindCharacters.test(kind)) throw new RangeError(`"${kind}" is not a backend kind`);
  return `${domainPath(backendDomid)}/backend/${kind}`;
}

export function backendDomainDir(backendDomid: number, kind: string, domid: number): string {
  const checked = checkedNumber('domid', domid, domidMax);
  return `${backendKindDir(backendDomid, kind)}/${checked}`;
}

export function backendDir(backendDomid: number, id: BackendId): string {
  const devid = checkedNumber('devid', id.devid, devidMax);
  return `${backendDomainDir(backendDomid, id.kind, id.domid)}/${devid}`;
}

/** The guest's side of a VBD; called "vbd" whatever the backend's kind is. */
export function frontendDir(domid: number, devid: number): string {
  return `${domainPath(domid)}/device/vbd/${checkedNumber('devid', devid, devidMax)}`;
}

/**
 * The folder in which all frontends of a domain lie; a frontend that lies elsewhere is its own.
 * Whoever watches it hears of them all.
 */
export function frontendsFolder(frontend: string): string {
  return /^(\/local\/domain\/[0-9]+\/device\/vbd)\/[0-9]+$/.exec(frontend)?.[1] ?? frontend;
}

/** Where a backend says why it gave up; toolstacks show it. */
export function backendErrorNode(backendDomid: number, id: BackendId): string {
  const home = domainPath(backendDomid);
  return `${home}/error${backendDir(backendDomid, id).slice(home.length)}/error`;
}

export function frontendErrorNode(domid: number, devid: number): string {
  const home = domainPath(domid);
  return `${home}/error${frontendDir(domid, devid).slice(home.length)}/error`;
}

/**
 * The device that a changed path belongs to, and the node below its folder ("" for the folder
 * itself). Undefined for every path that is not at or below a device's folder of this backend
 * domain.
 */
export function parseBackendPath(
  backendDomid: number,
  path: string,
): (BackendId & { node: string }) | undefined {
  const prefix = `${domainPath(backendDomid)}/backend/`;
  if (!path.startsWith(prefix)) return undefined;
  const [kind = '', domidText = '', devidText = '', ...rest] = path.slice(prefix.length).split('/');
  const domid = parseDomid(domidText);
  const devid = parseDevid(devidText);
  if (!kindCharacters.test(kind) || domid === undefined || devid === undefined) return undefined;
  return { kind, domid, devid, node: rest.join('/') };
}

function checkedNumber(what: string, value: number, max: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new RangeError(`${what} ${value} is not within 0..${max}`);
}
