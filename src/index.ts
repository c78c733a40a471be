// SPDX-License-Identifier: Apache-2.0
// The public API: re-exports only.
export { type Config, type ConfigOverrides, loadConfig, parseConfig } from './config.ts';
export { ControlClient } from './control/client.ts';
export { ControlError, DaemonUnreachableError } from './control/errors.ts';
export { controlSocketPath, type Method, type Methods } from './control/protocol.ts';
export { Daemon, startDaemon } from './daemon.ts';
export type {
  TargetCapabilities,
  TargetKind,
} from './datapath/binding.ts';
export type {
  EngineCounters,
  LatencyHistogram,
  VbdCounters,
  VbdLatency,
} from './datapath/counters.ts';
export { DatapathError } from './datapath/datapath.ts';
export {
  BackendNodeError,
  ConfigError,
  ERROR_CODES,
  type ErrorCode,
  NegotiationError,
  RingdiskError,
  TargetSpecError,
} from './errors.ts';
export { createLogger, type LogOptions } from './log.ts';
export { type LoopbackPlatform, openLoopbackPlatform } from './platform/loopback.ts';
export type { Platform } from './platform/platform.ts';
export { openXenPlatform } from './platform/xen.ts';
export type { VbdId } from './vbd/id.ts';
export type { VbdInfo } from './vbd/info.ts';
export type { Agreement } from './vbd/negotiate.ts';
export type { OurState } from './vbd/states.ts';
export type { Vbd } from './vbd/vbd.ts';
export { type Permission, type XenstoreClient, XenstoreError } from './xenstore/client.ts';
