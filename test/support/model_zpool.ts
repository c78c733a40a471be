// SPDX-License-Identifier: Apache-2.0
// What `zpool` says of the pools of a model: lists, a status without errors, no events.

/** @param state of all of them */
export function zpoolSays(
  pools: readonly string[],
  state: string,
  args: readonly string[],
): string {
  if (args[0] === 'events') return '';
  const named = pools.filter((name) => args.includes(name));
  const [pool = ''] = named;
  if (args[0] === 'status') return statusOf(pool, state);
  return (named.length > 0 ? named : pools)
    .map((name, at) => `${name}\t${at + 1}\t${state}\t1000\t0\t0\toff\n`)
    .join('');
}

function statusOf(pool: string, state: string): string {
  return [
    `  pool: ${pool}`,
    ` state: ${state}`,
    'config:',
    '',
    '\tNAME STATE READ WRITE CKSUM',
    `\t${pool} ${state} 0 0 0`,
    `\t  /dev/${pool}1 ${state} 0 0 0`,
    '',
    'errors: No known data errors',
    '',
  ].join('\n');
}
