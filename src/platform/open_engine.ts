// SPDX-License-Identifier: Apache-2.0
// The native engine as the configuration wants it. A setting that this machine cannot fulfil is
// named: systemd would start a daemon again and again that can never start.
import { type Config, defaultReactors, engineOptions } from '../config.ts';
import { type EngineOptions, native } from '../datapath/binding.ts';
import { type Datapath, openDatapath } from '../datapath/datapath.ts';
import { ConfigError } from '../errors.ts';

type Machine = Pick<EngineOptions, 'platform' | 'machineDir'>;

/** Throws ConfigError, or an Error that has the native one's `code`. */
export function openEngine(config: Config, machine: Machine): Datapath {
  try {
    return openDatapath(native, { ...machine, ...engineOptions(config) });
  } catch (error) {
    throw startFailure(error as NodeJS.ErrnoException, config);
  }
}

/** What to tell of it, and what can be done. */
export function startFailure(error: NodeJS.ErrnoException, config: Config): Error {
  const { code, message } = error;
  const [, cpu] = /cannot pin a reactor to CPU (\d+)/.exec(message) ?? [];
  if (cpu !== undefined && code === 'EINVAL') {
    return new ConfigError([
      `"cpus" names CPU ${cpu}, which this machine does not have, is offline, or may not be used ` +
        'by the daemon (see /sys/devices/system/cpu/online, and CPUAffinity= of the unit).',
    ]);
  }
  if (code !== 'ENOMEM' || !message.includes('io_uring')) return error;
  const { reactors } = config;
  const text =
    `There is too little memory that may be locked (ulimit -l) for the rings of "reactors": ` +
    `${reactors}. Set LimitMEMLOCK=infinity in the unit, or have fewer reactors.`;
  if (reactors > defaultReactors()) return new ConfigError([text]);
  return Object.assign(new Error(text, { cause: error }), { code });
}
