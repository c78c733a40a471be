// SPDX-License-Identifier: Apache-2.0
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  absolutePath,
  backendDir,
  backendDomainDir,
  backendErrorNode,
  backendKindDir,
  baseName,
  checkPath,
  checkWatchPath,
  childPath,
  devidMax,
  domidMax,
  frontendDir,
  frontendErrorNode,
  isAtOrBelow,
  parentPath,
  parseBackendPath,
  parseDevid,
  parseDomid,
} from '../../../src/xenstore/paths.ts';

const someId = fc.record({
  kind: fc.constantFrom('vbd', 'vbd3', 'qdisk'),
  domid: fc.integer({ min: 0, max: domidMax }),
  devid: fc.integer({ min: 0, max: devidMax }),
});

describe('building', () => {
  it('follows the layout of Xen toolstacks', () => {
    const id = { kind: 'vbd3', domid: 5, devid: 51712 };
    expect(backendKindDir(0, 'vbd3')).toBe('/local/domain/0/backend/vbd3');
    expect(backendDomainDir(0, 'vbd3', 5)).toBe('/local/domain/0/backend/vbd3/5');
    expect(backendDir(2, id)).toBe('/local/domain/2/backend/vbd3/5/51712');
    expect(frontendDir(5, 51712)).toBe('/local/domain/5/device/vbd/51712');
    expect(backendErrorNode(2, id)).toBe('/local/domain/2/error/backend/vbd3/5/51712/error');
    expect(frontendErrorNode(5, 51712)).toBe('/local/domain/5/error/device/vbd/51712/error');
  });

  it('refuses numbers out of range and kinds that would change the path', () => {
    expect(() => frontendDir(domidMax + 1, 0)).toThrow(RangeError);
    expect(() => frontendDir(1.5, 0)).toThrow(RangeError);
    expect(() => frontendDir(1, -1)).toThrow(RangeError);
    expect(() => frontendDir(1, devidMax + 1)).toThrow(RangeError);
    for (const kind of ['', 'a/b', '..', 'v bd', 'x'.repeat(33)]) {
      expect(() => backendKindDir(0, kind)).toThrow(RangeError);
    }
  });
});

describe('parseBackendPath', () => {
  it('finds again what backendDir built, with any node below', () => {
    const below = fc.constantFrom('', 'state', 'queue-0/ring-ref');
    fc.assert(
      fc.property(someId, below, (id, node) => {
        const path = backendDir(7, id) + (node && `/${node}`);
        expect(parseBackendPath(7, path)).toEqual({ ...id, node });
      }),
    );
  });

  it('rejects everything else', () => {
    const rejected = [
      '/local/domain/0/backend/vbd3',
      '/local/domain/0/backend/vbd3/5',
      '/local/domain/0/backend/vbd3/5/',
      '/local/domain/0/backend/vbd3/05/51712',
      '/local/domain/0/backend/vbd3/32752/51712',
      '/local/domain/0/backend/vbd3/5/2147483648',
      '/local/domain/0/backend/vbd3/5/0x10',
      '/local/domain/0/backend//5/51712',
      '/local/domain/1/backend/vbd3/5/51712',
      'backend/vbd3/5/51712',
      '@releaseDomain',
    ];
    for (const path of rejected) expect(parseBackendPath(0, path)).toBeUndefined();
  });

  it('takes no spelling but the one backendDir builds', () => {
    const tail = fc.stringMatching(/^[a-z0-9/+ .-]{0,12}$/);
    fc.assert(
      fc.property(tail, (garbage) => {
        const path = `/local/domain/0/backend/vbd/${garbage}`;
        const parsed = parseBackendPath(0, path);
        if (!parsed) return;
        const canonical = backendDir(0, parsed);
        expect(path === canonical || path === `${canonical}/${parsed.node}`).toBe(true);
      }),
    );
  });
});

describe('numbers', () => {
  it('are plain decimals in range, nothing else', () => {
    expect(parseDomid('0')).toBe(0);
    expect(parseDomid('32751')).toBe(32751);
    expect(parseDevid('2147483647')).toBe(2147483647);
    const bad = ['', ' 1', '1 ', '+1', '-1', '01', '1.0', '1e3', '0x1', '1\n', '١', '99999999999'];
    for (const text of [...bad, '32752']) expect(parseDomid(text)).toBeUndefined();
    for (const text of [...bad, '2147483648']) expect(parseDevid(text)).toBeUndefined();
  });
});

describe('path syntax', () => {
  it('takes what xenstored takes', () => {
    for (const path of ['/', '/a', '/A-b_c@d/0', 'relative/x', `/${'x'.repeat(3071)}`]) {
      expect(() => checkPath(path)).not.toThrow();
    }
    expect(() => checkWatchPath('@releaseDomain')).not.toThrow();
  });

  it('refuses the rest with a sentence', () => {
    const bad = ['', '/a/', '//a', '/a//b', '/a b', '/a\0b', '/ä', '/a.b', '@releaseDomain'];
    for (const path of [...bad, `/${'x'.repeat(3072)}`, 'x'.repeat(2049)]) {
      expect(() => checkPath(path)).toThrow(/^xenstore path ".*" (is|ends|has) /);
    }
    expect(() => checkWatchPath('@')).toThrow('xenstore path');
    expect(() => checkWatchPath('@a b')).toThrow('xenstore path');
  });

  it('knows parents, children and names', () => {
    expect(parentPath('/')).toBeUndefined();
    expect(parentPath('/a')).toBe('/');
    expect(parentPath('/a/b')).toBe('/a');
    expect(childPath('/', 'a')).toBe('/a');
    expect(childPath('/a', 'b')).toBe('/a/b');
    expect(baseName('/a/b')).toBe('b');
    expect(absolutePath('a/b', 3)).toBe('/local/domain/3/a/b');
    expect(absolutePath('/a', 3)).toBe('/a');
    expect(isAtOrBelow('/a/b', '/a')).toBe(true);
    expect(isAtOrBelow('/a', '/a')).toBe(true);
    expect(isAtOrBelow('/ab', '/a')).toBe(false);
    expect(isAtOrBelow('/a', '/')).toBe(true);
  });
});
