// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { readName } from '../../../src/volume/names.ts';
import type { DatasetRecord } from '../../../src/volume/records.ts';
import { isBetweenTwo, unfinishedSteps } from '../../../src/volume/unfinished.ts';

let txg = 0;

function record(name: string, more: Partial<DatasetRecord> = {}): DatasetRecord {
  const dataset = `tank/ringdisk/${name}`;
  const isSnapshot = name.includes('@');
  const isOurs = !(name.split('@').at(-1) ?? '').includes(':');
  return {
    dataset,
    name: readName('tank', dataset),
    type: isSnapshot ? 'snapshot' : 'volume',
    created: 0,
    createTxg: ++txg,
    guid: '1',
    size: 1,
    blockSize: 1,
    used: 0,
    referenced: 0,
    written: 0,
    refreservation: 0,
    deferred: false,
    snapdev: 'hidden',
    own: new Map(isOurs ? [['ringdisk:uuid', name]] : []),
    ...more,
  };
}

const clone = (name: string, origin: string) => record(name, { origin: `tank/ringdisk/${origin}` });

const steps = (...records: DatasetRecord[]) =>
  unfinishedSteps(records).map((step) =>
    'dataset' in step ? `${step.do} ${step.dataset.replace('tank/ringdisk/', '')}` : step.do,
  );

describe('what is left to do in a store', () => {
  it('is nothing, in one that is well', () => {
    expect(steps(record('a'), record('a@1'), clone('b', 'a@1'))).toEqual([]);
    expect(steps(record('a'), record('a@1:base', { deferred: true }))).toEqual([]);
  });

  it('is a revert to undo, or to finish', () => {
    expect(steps(record('a'), record('a@1'), clone('a:new', 'a@1'))).toEqual(['destroy a:new']);
    const half = [record('x:old'), record('x:old@1'), clone('a:new', 'x:old@1')];
    expect(unfinishedSteps(half)[0]).toEqual({
      do: 'rename',
      from: 'tank/ringdisk/a:new',
      to: 'tank/ringdisk/a',
    });
    expect(isBetweenTwo(half)).toBe(true);
    expect(isBetweenTwo([record('a'), clone('a:new', 'a@1')])).toBe(false);
  });

  it('is a volume that takes another one’s place, step by step', () => {
    const ready = (uuid: string) => record('a:ready', { own: new Map([['ringdisk:uuid', uuid]]) });
    const kept = { 'ringdisk:uuid': 'a', 'ringdisk:name': 'n', compression: 'off' };
    const volume = record('a', { own: new Map(Object.entries(kept)) });
    expect(unfinishedSteps([volume, ready('b')])).toEqual([
      { do: 'identify', dataset: 'tank/ringdisk/a:ready', settings: kept },
    ]);
    expect(steps(volume, ready('a'))).toEqual(['retire a']);
    expect(unfinishedSteps([record('x:old'), ready('a')])[0]).toMatchObject({
      ...{ do: 'rename', from: 'tank/ringdisk/a:ready', to: 'tank/ringdisk/a' },
    });
    expect(isBetweenTwo([volume, ready('b')])).toBe(true);
  });

  it('is a base that its clone is to take along', () => {
    expect(steps(record('a'), record('a@1:base'))).toEqual(['defer a@1:base']);
  });

  it('is an old one without snapshots', () => {
    expect(steps(record('x:old'))).toEqual(['destroy x:old']);
  });

  it('is what an old one holds beyond its snapshots', () => {
    const old = record('x:old', { written: 5, refreservation: 9 });
    expect(steps(old, record('x:old@1'), record('x:old@2'))).toEqual([
      'unreserve x:old',
      'rollback x:old@2',
    ]);
  });

  it('is to give its snapshots to a clone that lives', () => {
    const old = [record('x:old'), record('x:old@1'), record('x:old@2')];
    expect(steps(...old, clone('b', 'x:old@1'), record('y:old'))).toEqual(['promote b']);
  });

  it('leaves the key where it is', () => {
    const root = { encryptionRoot: 'tank/ringdisk/x:old' };
    const old = [record('x:old', root), record('x:old@1', root)];
    const heir = record('b', { ...root, origin: 'tank/ringdisk/x:old@1' });
    expect(steps(...old, heir)).toEqual([]);
    expect(steps(record('x:old', root))).toEqual(['destroy x:old']);
  });

  it('is one promotion at a time', () => {
    const two = ['x', 'y'].flatMap((name) => [
      record(`${name}:old`),
      record(`${name}:old@1`),
      clone(name, `${name}:old@1`),
    ]);
    expect(steps(...two)).toEqual(['promote x']);
  });

  it('never has two old ones take turns', () => {
    const x = [record('x:old'), record('x:old@1'), clone('y:old', 'x:old@1')];
    const kept = record('y:old@2');
    expect(steps(...x, kept)).toEqual([]);
    const hidden = record('x:old@1', { deferred: true });
    expect(steps(record('x:old'), hidden, clone('y:old', 'x:old@1'), kept)).toEqual([
      'promote y:old',
    ]);
  });
});
