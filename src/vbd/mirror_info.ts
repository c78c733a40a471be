// SPDX-License-Identifier: Apache-2.0
import type { TargetKind } from '../datapath/binding.ts';
import type { MirrorStatus } from '../datapath/mirror_binding.ts';
import type { Device, DeviceMirror } from './device.ts';

/** How far a mirror is; JSON-able, sizes in bytes. */
export interface MirrorInfo {
  /** As it was asked for. */
  readonly target: string;
  readonly kind: TargetKind;
  readonly path: string;
  /**
   * waiting: for its target; following: all is copied, and what the guest writes is copied after
   * it; ready: the target has all that the guest was answered for.
   */
  readonly state: 'waiting' | 'copying' | 'paused' | 'following' | 'ready' | 'failed';
  readonly mode: 'copy' | 'sync';
  readonly bytes: number;
  /** To be copied. */
  readonly bytesBehind: number;
  readonly bytesCopied: number;
  /** Bound, a second; 0: as fast as it goes. */
  readonly rate: number;
  /** Lately, a second; 0: not known. */
  readonly speed: number;
  /** An estimate, while it is copying. */
  readonly secondsLeft?: number;
  readonly switchWhenReady: boolean;
  /** Reads of the disk that failed, and were tried again. */
  readonly sourceErrors: number;
  /** Why it has failed, waits, or was not switched. */
  readonly error?: string;
}

export function describeMirror({ mirror, medium }: Device): MirrorInfo | undefined {
  if (!mirror) return undefined;
  const { target, wish, failure, problem, native } = mirror;
  const { params, kind, path } = target;
  const status = native?.status();
  const { capacity = 0 } = medium?.target.capabilities ?? {};
  const { bytes = capacity, behindBytes = capacity, copiedBytes = 0 } = status ?? {};
  const { speed = 0, sourceErrors = 0 } = status ?? {};
  const { mode, rate, switchWhenReady } = wish;
  const state = stateOf(mirror, status);
  const isTold = state === 'copying' && speed > 0;
  const error = failure ?? problem;
  return {
    ...{ target: params, kind, path, state, mode, bytes },
    ...{ bytesBehind: behindBytes, bytesCopied: copiedBytes, rate, speed },
    ...(isTold && { secondsLeft: Math.ceil(behindBytes / speed) }),
    ...{ switchWhenReady, sourceErrors },
    ...(error !== undefined && { error }),
  };
}

function stateOf(
  { wish, failure }: DeviceMirror,
  status: MirrorStatus | undefined,
): MirrorInfo['state'] {
  if (failure !== undefined || !status || status.error !== '') return 'failed';
  if (!status.hasDestination) return 'waiting';
  if (status.ready) return 'ready';
  if (wish.paused) return 'paused';
  return status.behindBytes === 0 && wish.mode === 'copy' ? 'following' : 'copying';
}
