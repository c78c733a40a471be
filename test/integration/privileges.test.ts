// SPDX-License-Identifier: Apache-2.0
// What a daemon may do that was started with every privilege this user has: nothing of them.
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ServeProcess } from '../support/serve_process.ts';

let server: ServeProcess;
let statuses: string[];

beforeAll(async () => {
  server = await ServeProcess.start();
  const { pid } = server.started.child;
  statuses = readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8'),
  );
});

afterAll(async () => {
  await server.stop();
  server.remove();
});

/** "CapEff" → its value in each thread, without repetition. */
function values(field: string): string[] {
  const line = new RegExp(`^${field}:\\s*(\\S+)$`, 'm');
  return [...new Set(statuses.map((status) => line.exec(status)?.[1] ?? 'missing'))];
}

describe('every thread of the daemon', () => {
  it('is one of many: the reactors and what Node has', () => {
    const names = statuses.map((status) => /^Name:\s*(\S+)$/m.exec(status)?.[1]);
    expect(names).toContain('rd-reactor-0');
    expect(names.length).toBeGreaterThan(5);
  });

  it.each(['CapEff', 'CapPrm', 'CapInh', 'CapAmb'])('has an empty %s', (set) => {
    expect(values(set)).toEqual(['0000000000000000']);
  });

  it('has an empty bounding set', ({ skip }) => {
    if (process.getuid?.() !== 0) skip('only root can empty it');
    expect(values('CapBnd')).toEqual(['0000000000000000']);
  });

  it('can gain nothing by what it starts', () => {
    expect(values('NoNewPrivs')).toEqual(['1']);
  });
});

describe('the daemon', () => {
  it('is still the process that was started', async () => {
    const { status, stderr } = await server.cli('list');
    expect(status, stderr).toBe(0);
    const line = readFileSync(`/proc/${server.started.child.pid}/cmdline`, 'utf8');
    expect(line.split('\0')).toContain('serve');
  });

  it('says in its log what it kept', async () => {
    const { stderr } = await server.stop();
    const lines = stderr.split('\n').filter((line) => line.startsWith('{'));
    const serving = lines.map((line) => JSON.parse(line)).find(({ msg }) => msg === 'serving');
    expect(serving).toMatchObject({ capabilities: 'none' });
  });
});
