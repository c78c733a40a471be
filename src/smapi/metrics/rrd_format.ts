// SPDX-License-Identifier: Apache-2.0
// What XAPI's rrdd reads of a plugin, its protocol 2: one file that holds the values of a moment
// and says what each of them is. Numbers are big-endian. Pure.
//
//   0         "DATASOURCES"
//   11        CRC-32 of the time and the values
//   15        CRC-32 of the JSON
//   19        how many values
//   23        the time: seconds since 1970, a double
//   31        the values, 8 bytes each: a 64-bit integer, or a double
//   31 + 8n   the length of the JSON, 4 bytes
//   35 + 8n   the JSON: a value's name, owner, type and so on, in the values' order
//
// rrdd takes a time that has not changed for a reading that has gone wrong, and comes back later.
import { crc32 } from 'node:zlib';

export interface DataSource {
  /** By UUID. Its name is its owner's alone: two VMs may have a vbd_xvda_read each. */
  readonly owner: 'host' | `vm ${string}` | `sr ${string}`;
  readonly name: string;
  readonly description: string;
  readonly units: string;
  /** As it is; what has come since the last reading; what there has been, ever growing. */
  readonly type: 'gauge' | 'absolute' | 'derive';
  readonly valueType: 'int64' | 'float';
  readonly value: number;
}

const MAGIC = 'DATASOURCES';
const DATA_CRC = 11;
const METADATA_CRC = 15;
const COUNT = 19;
const TIME = 23;
/** All before it is written last. */
export const VALUES = 31;
const VALUE_BYTES = 8;

/** `seconds`: since 1970. */
export function encodeRrd(sources: readonly DataSource[], seconds: number): Buffer {
  const metadata = Buffer.from(describe(sources));
  const end = VALUES + VALUE_BYTES * sources.length;
  const content = Buffer.alloc(end + 4 + metadata.length);
  content.write(MAGIC, 'latin1');
  content.writeUInt32BE(crc32(metadata), METADATA_CRC);
  content.writeUInt32BE(sources.length, COUNT);
  content.writeDoubleBE(seconds, TIME);
  for (const [index, { valueType, value }] of sources.entries()) {
    const at = VALUES + VALUE_BYTES * index;
    if (valueType === 'int64') content.writeBigInt64BE(BigInt(Math.round(value)), at);
    else content.writeDoubleBE(value, at);
  }
  content.writeUInt32BE(metadata.length, end);
  metadata.copy(content, end + 4);
  content.writeUInt32BE(crc32(content.subarray(TIME, end)), DATA_CRC);
  return content;
}

/** No object of ours: several owners have the same names, and their order is that of the values. */
function describe(sources: readonly DataSource[]): string {
  const entries = sources.map(({ name, owner, description, units, type, valueType }) => {
    const about = { owner, description, units, type, value_type: valueType };
    // Texts, all of them: a number or a flag is refused.
    const entry = { ...about, default: 'true', min: '0.00', max: 'inf' };
    return `${JSON.stringify(name)}:${JSON.stringify(entry)}`;
  });
  return `{"datasources":{${entries.join(',')}}}`;
}
