// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { Folder, type Profile, unknownShare } from '../../../src/flamegraph/fold.ts';

const SCRIPT = `rd-reactor-0 21211 
	ffffffff81b47f12 io_submit_sqes ([kernel.kallsyms])
	           38521 ringdisk::Reactor::round(int (*)(char)) (/opt/build/Release/ringdisk.node)
	          1098eb clone3 (/usr/lib/libc.so.6)

rd-reactor-0 21211 
	ffffffff81b47f13 io_submit_sqes ([kernel.kallsyms])
	           38521 ringdisk::Reactor::round(int (*)(char)) (/opt/build/Release/ringdisk.node)
	          1098eb clone3 (/usr/lib/libc.so.6)

node 21200 
	           12345 [unknown] (/usr/lib/libc.so.6)
	ffffffffc0812345 nvme_queue_rq ([nvme])
	          abcdef uv_run (/usr/bin/node)
	          fedcba [unknown] ([unknown])

a name 7 
`;

function fold(text: string): Profile {
  const folder = new Folder();
  for (const line of text.split('\n')) folder.add(line);
  return folder.profile();
}

describe('fold', () => {
  it('adds stacks that are alike, outermost frame first', () => {
    const { root, samples } = fold(SCRIPT);
    expect(samples).toBe(4);
    expect(root.children[0]).toMatchObject({
      name: 'rd-reactor-0',
      value: 2,
      children: [{ name: 'clone3', value: 2, children: [{ kind: 'ringdisk', value: 2 }] }],
    });
  });

  it('tells whose code a frame is', () => {
    let at = fold(SCRIPT).root.children[1];
    const kinds: string[] = [];
    for (; at; at = at.children[0]) kinds.push(`${at.name}: ${at.kind}`);
    expect(kinds).toEqual([
      'node (control plane): thread',
      '[unknown]: unknown',
      'uv_run: node',
      'nvme_queue_rq: kernel',
      '[libc.so.6]: unknown',
    ]);
  });

  it('counts frames without a name, and where they lie', () => {
    const profile = fold(SCRIPT);
    expect(profile).toMatchObject({ frames: 10, unknownFrames: 2 });
    expect(profile.unknownIn).toEqual([
      ['libc.so.6', 1],
      ['[unknown]', 1],
    ]);
    expect(unknownShare(profile)).toBe(0.2);
  });

  it('keeps a sample without a stack', () => {
    expect(fold(SCRIPT).root.children[2]).toMatchObject({ name: 'a name', value: 1 });
    expect(unknownShare(fold(''))).toBe(0);
  });
});
