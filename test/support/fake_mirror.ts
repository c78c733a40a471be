// SPDX-License-Identifier: Apache-2.0
// A mirror of the fake data path: it copies nothing, and is ready once it has its destination.
import type { MirrorSetup } from '../../src/datapath/mirror_binding.ts';
import type { Mirror } from '../../src/datapath/mirrors.ts';

export function fakeMirror(handle: number, { sync }: MirrorSetup): Mirror {
  let hasDestination = false;
  let isOver = false;
  let tell = () => {};
  const none = { bytes: 1 << 30, behindBytes: 0, copiedBytes: 0, speed: 0, sourceErrors: 0 };
  return {
    handle,
    gone: Promise.resolve(),
    status: () => {
      if (isOver) return undefined;
      const ready = hasDestination && sync;
      return { ...none, sync, ready, hasDestination, swept: hasDestination, error: '' };
    },
    give: async () => {
      hasDestination = true;
      tell();
    },
    set: () => {},
    end: () => {},
    onChange: (changed) => {
      tell = changed;
    },
    close: async () => {
      isOver = true;
    },
  };
}
