// SPDX-License-Identifier: Apache-2.0
// The schemas against what XAPI's own daemon was seen to send, to take and to refuse: the recording
// says itself of which program it is.
import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { formatResult, parseCall } from '../../../src/smapi/call.ts';
import { DATAPATH_METHODS, ErrorSchema, VOLUME_METHODS } from '../../../src/smapi/schema.ts';

interface Recorded {
  method: string;
  stdout: string;
}
interface RecordedCall extends Recorded {
  smapiv2: string;
  argv: string[];
  stdin: string;
}
interface Verdict extends Recorded {
  note: string;
  exit: number;
  accepted: boolean;
  outcome: unknown;
}

const vectors: { calls: RecordedCall[]; verdicts: Verdict[] } = JSON.parse(
  readFileSync(new URL('../../support/records/smapi_vectors.json', import.meta.url), 'utf8'),
);
const schemas: Record<string, { result: v.GenericSchema }> = {
  ...VOLUME_METHODS,
  ...DATAPATH_METHODS,
};

/** What the daemon takes and this refuses, each for a reason. */
const STRICTER = new Map([
  ['Volume.stat: without cbt_enabled', 'it is always said'],
  ['Volume.stat: size as string', 'the Python checker wants a number'],
  ['Volume.stat: volume_type "Data"', 'the Python checker refuses it'],
  ['Volume.stat: volume_type ["Data"]', 'the daemon passes over it'],
  ['Volume.stat: volume_type bogus', 'the Python checker refuses it'],
  ['Volume.stat: cbt_enabled null', 'the Python checker refuses it'],
  ['Volume.stat: unknown field', 'nobody would read it'],
  ['Volume.stat: upper-case field names', 'the Python checker refuses them'],
  ['SR.stat: health lower', 'the Python checker refuses it'],
  ['Datapath.attach: none', 'no guest gets the disk'],
  ['Datapath.attach: lower-case tag', 'the Python checker refuses it'],
  ['Datapath.attach: get_nbd_server nbd:unix:/s:exportname=e', 'no guest gets the disk'],
  ['Data.stat: {"failed": false, "complete": true, "progress": 1}', 'the checker wants a float'],
  ['Volume.list_changed_blocks: {"granularity": 65536, "bitmap": "AA=="}', 'no whole words'],
  ['Volume.list_changed_blocks: {"granularity": 4096, "bitmap": ""}', 'readers count on 64 KiB'],
]);

/** What is refused there and has no form here: JSON of ours knows no 1.0. */
const UNSAYABLE = ['Volume.stat: size 1.0'];

function scriptOf(method: string): string {
  const isDatapath = method.startsWith('Data');
  return isDatapath ? `/x/datapath/rec/${method}` : `/x/volume/org.xen.xapi.storage.rec/${method}`;
}

/** As JSON, or undefined for what is none. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isTaken({ method, stdout }: Recorded): boolean {
  const schema = schemas[method]?.result;
  if (!schema) throw new Error(`no schema of ${method}`);
  const value = parsed(stdout);
  return value !== undefined && v.safeParse(schema, value).success;
}

test('the recording is whole', () => {
  expect([vectors.calls.length, vectors.verdicts.length]).toEqual([67, 98]);
});

describe('each recorded call', () => {
  for (const [index, call] of vectors.calls.entries()) {
    test(`${index}: ${call.smapiv2}, ${call.method}`, () => {
      const raw = { script: scriptOf(call.method), style: 'json', text: call.stdin } as const;
      const { method, params } = parseCall(raw);
      expect(method).toBe(call.method);
      expect(params).toEqual(JSON.parse(call.stdin));
      // Ours always say what they have, and no other api.
      expect(isTaken(call)).toBe(true);
      expect(JSON.parse(formatResult(parseCall(raw), JSON.parse(call.stdout)))).toEqual(
        JSON.parse(call.stdout),
      );
    });
  }
});

describe('each verdict', () => {
  for (const [index, verdict] of vectors.verdicts.entries()) {
    const name = `${verdict.method}: ${verdict.note}`;
    test(`${index}: ${name}`, () => {
      if (verdict.exit === 0) {
        // Its reader has taken it, and believes what it says.
        const isBelieved = JSON.stringify(verdict.outcome).startsWith('["Sr_unhealthy"');
        const isAccepted = verdict.accepted || isBelieved || UNSAYABLE.includes(name);
        expect(isTaken(verdict)).toBe(isAccepted && !STRICTER.has(name));
        return;
      }
      // An error: its code comes through, or it is lost.
      const isKnown = v.safeParse(ErrorSchema, parsed(verdict.stdout)).success;
      expect(isKnown).toBe(!JSON.stringify(verdict.outcome).includes('SCRIPT_FAILED'));
    });
  }
  test('that is stricter than the daemon is one that it gave', () => {
    const taken = vectors.verdicts.filter(({ accepted, exit }) => accepted && exit === 0);
    const names = taken.map(({ method, note }) => `${method}: ${note}`);
    expect([...STRICTER.keys()].filter((name) => !names.includes(name))).toEqual([]);
  });
});
