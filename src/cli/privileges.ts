// SPDX-License-Identifier: Apache-2.0
// What the daemon may do beyond what its user may: nothing. It opens what root owns, so it stays
// root, and everything else that root can do is given up before anything of a guest is read.
import { readFileSync } from 'node:fs';

/** Holds the number of the process that is on its way through execve, which keeps the number. */
const STARTED_ANEW = 'RINGDISK_STARTED_ANEW';

/**
 * Starts this process anew without privileges, and does not return, unless it has none: call it
 * before anything else is done. As a service it costs nothing, since systemd starts us so.
 */
export async function giveUpPrivileges(): Promise<void> {
  const { argv, argv0, env, execArgv, execPath, pid } = process;
  if (env[STARTED_ANEW] !== String(pid)) {
    const { native } = await import('../datapath/binding.ts');
    env[STARTED_ANEW] = String(pid);
    native.restartUnprivileged(execPath, [argv0, ...execArgv, ...argv.slice(1)]);
  } else if (describeCapabilities(readPrivileges()) !== 'none') {
    // A third time would be a circle.
    throw new Error('the capabilities that were given up have come back');
  }
  delete env[STARTED_ANEW];
}

export interface Privileges {
  /** The sets of capabilities(7) that hold some, as the kernel writes them; empty: none does. */
  capabilities: Record<string, string>;
  /** Programs we start can have no more than we have. */
  noNewPrivileges: boolean;
}

/** Of the calling thread, which is all of them: see restartUnprivileged in binding.ts. */
export function readPrivileges(status = readFileSync('/proc/self/status', 'utf8')): Privileges {
  const held = [...status.matchAll(/^Cap(Inh|Prm|Eff|Amb):\s*([0-9a-f]+)$/gm)].filter(
    ([, , mask = '']) => /[^0]/.test(mask),
  );
  return {
    capabilities: Object.fromEntries(held.map(([, name, mask]) => [name, mask])),
    noNewPrivileges: /^NoNewPrivs:\s*1$/m.test(status),
  };
}

/** "none", or "Prm 0000003fffffffff, Eff ..." for people. */
export function describeCapabilities({ capabilities }: Privileges): string {
  const sets = Object.entries(capabilities);
  return sets.length === 0 ? 'none' : sets.map((set) => set.join(' ')).join(', ');
}
