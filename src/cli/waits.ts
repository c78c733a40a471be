// SPDX-License-Identifier: Apache-2.0
// What a guest's requests wait for, in words.

interface Waits {
  fencedSince?: string | undefined;
  failing?: { since: string; error: string } | undefined;
  waits?:
    | readonly { call: string; since: string; count: number; why?: string | undefined }[]
    | undefined;
}

/** "fenced", "failing", "hangs in write": for the state in a table. */
export function waitNames({ fencedSince, failing, waits = [] }: Waits): string[] {
  const hangs = waits.map(({ call }) => `hangs in ${call}`);
  return [...(fencedSince ? ['fenced'] : []), ...(failing ? ['failing'] : []), ...hangs];
}

/** By the same names, a sentence without its subject for each. */
export function waitFields({
  fencedSince,
  failing,
  waits = [],
}: Waits): [name: string, text: string][] {
  const fields: [string, string][] = [];
  if (fencedSince) {
    fields.push([
      'fenced',
      `since ${fencedSince}: writes wait for the I/O of the daemon that died`,
    ]);
  }
  if (failing) {
    const { error, since } = failing;
    fields.push(['failing', `with ${error} since ${since}: requests wait and are tried again`]);
  }
  for (const { call, since, count, why } of waits) {
    const times = count > 1 ? `${count} times in ${call}, the first` : `in ${call}`;
    fields.push(['hangs', `${times} since ${since}: ${why ?? 'its storage does not answer'}`]);
  }
  return fields;
}

/** A line for each wait of each VBD. */
export function waitLines(vbds: readonly (Waits & { name: string })[]): string[] {
  return vbds.flatMap((vbd) =>
    waitFields(vbd).map(([name, text]) => `${vbd.name}: ${name} ${text}`),
  );
}
