// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { WaitingPaths, WatchQueue, waitingPathsMax } from '../../../src/xenstore/watch_queue.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('WaitingPaths', () => {
  it('holds each path once, in order of the first change', () => {
    const waiting = new WaitingPaths('/w');
    for (const path of ['/w/a', '/w/b', '/w/a']) waiting.add(path);
    expect([waiting.take(), waiting.take(), waiting.take()]).toEqual(['/w/a', '/w/b', undefined]);
    waiting.add('/w/a');
    expect(waiting.take()).toBe('/w/a');
    expect(waiting.isEmpty).toBe(true);
  });

  it('replaces too many different paths by the watched one', () => {
    const waiting = new WaitingPaths('/w');
    for (let index = 0; index <= waitingPathsMax; index++) waiting.add(`/w/${index}`);
    expect([waiting.take(), waiting.take()]).toEqual(['/w', undefined]);
  });
});

describe('WatchQueue', () => {
  it('delivers later, and what arrived together once', async () => {
    const seen: string[] = [];
    const queue = new WatchQueue('/w', (path) => seen.push(path));
    for (const path of ['/w/a', '/w/a', '/w/b']) queue.add(path);
    expect(seen).toEqual([]);
    await turn();
    expect(seen).toEqual(['/w/a', '/w/b']);
  });

  it('delivers nothing after close, not even what waits', async () => {
    const seen: string[] = [];
    const queue = new WatchQueue('/w', (path) => {
      seen.push(path);
      queue.close();
    });
    for (const path of ['/w/a', '/w/b']) queue.add(path);
    await turn();
    queue.add('/w/c');
    await turn();
    expect(seen).toEqual(['/w/a']);
  });

  it('lets the event loop turn when a callback causes its own event', async () => {
    let calls = 0;
    const queue = new WatchQueue('/w', () => {
      calls++;
      queue.add('/w');
    });
    queue.add('/w');
    await turn();
    expect(calls).toBe(waitingPathsMax);
    queue.close();
  });
});
