// SPDX-License-Identifier: Apache-2.0
// The lines of `perf script` as one tree of stacks.
import path from 'node:path';

/** Whose code a frame is. */
export type Kind = 'thread' | 'ringdisk' | 'kernel' | 'node' | 'library' | 'unknown';

export interface Frame {
  name: string;
  kind: Kind;
  /** Samples in it or in what it called. */
  value: number;
  children: Frame[];
}

export interface Profile {
  /** Its children are the threads, by name. */
  root: Frame;
  samples: number;
  frames: number;
  unknownFrames: number;
  /** Where frames without a name lie, most first. */
  unknownIn: [file: string, frames: number][];
}

interface Line {
  name: string;
  kind: Kind;
}

/** Takes the lines one by one: stacks are long, and there are many. */
export class Folder {
  readonly #root: Frame = { name: 'all', kind: 'thread', value: 0, children: [] };
  readonly #unknownIn = new Map<string, number>();
  #thread = '';
  #stack: Line[] = [];
  #frames = 0;
  #unknown = 0;

  add(line: string): void {
    if (line === '') {
      this.#end();
      return;
    }
    if (!/^\s/.test(line)) {
      this.#end();
      // "rd-reactor-0 21211 "; a thread's name may have blanks.
      this.#thread = /^(.*?)\s+\d+\s*$/.exec(line)?.[1] ?? line.trim();
      return;
    }
    const frame = /^\s+[0-9a-f]+\s+(.+) \((.*)\)$/.exec(line);
    if (frame) this.#stack.push(this.#read(frame[1] ?? '', frame[2] ?? ''));
  }

  profile(): Profile {
    this.#end();
    return {
      root: this.#root,
      samples: this.#root.value,
      frames: this.#frames,
      unknownFrames: this.#unknown,
      unknownIn: [...this.#unknownIn].sort(([, a], [, b]) => b - a),
    };
  }

  #read(symbol: string, file: string): Line {
    this.#frames++;
    const known = symbol !== '[unknown]';
    const base = file.startsWith('/') ? path.basename(file) : file;
    if (known) return { name: symbol, kind: kindOf(base) };
    this.#unknown++;
    this.#unknownIn.set(base, (this.#unknownIn.get(base) ?? 0) + 1);
    return { name: `[${base.replaceAll(/^\[|\]$/g, '')}]`, kind: 'unknown' };
  }

  /** The stack is there, its innermost frame first. */
  #end(): void {
    if (this.#thread === '') return;
    this.#root.value++;
    let at = child(this.#root, { name: threadName(this.#thread), kind: 'thread' });
    for (const line of this.#stack.reverse()) at = child(at, line);
    this.#thread = '';
    this.#stack = [];
  }
}

function child(parent: Frame, { name, kind }: Line): Frame {
  let found = parent.children.find((one) => one.name === name && one.kind === kind);
  if (!found) {
    found = { name, kind, value: 0, children: [] };
    parent.children.push(found);
  }
  found.value++;
  return found;
}

/** The daemon's main thread and its helpers are called as the program is. */
function threadName(comm: string): string {
  return comm === 'node' ? 'node (control plane)' : comm;
}

function kindOf(file: string): Kind {
  if (file === 'ringdisk.node') return 'ringdisk';
  if (file.startsWith('[kernel') || file.endsWith('.ko') || /^\[\w+\]$/.test(file)) return 'kernel';
  if (file === 'node') return 'node';
  return 'library';
}

/** Of all frames, 0 to 1. */
export function unknownShare({ frames, unknownFrames }: Profile): number {
  return frames === 0 ? 0 : unknownFrames / frames;
}
