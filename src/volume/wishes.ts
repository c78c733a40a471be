// SPDX-License-Identifier: Apache-2.0
// What callers wish for, checked and turned into settings of ZFS. Pure.
import type { Settings } from '../zfs/zfs.ts';
import {
  type CloneVolume,
  type CreateVolume,
  type EncryptionKey,
  ManagerError,
  type MetadataChange,
  type SnapshotVolume,
  VOLUME_PROPERTIES,
  type VolumeProperties,
} from './manager_types.ts';
import { encodeRecord, encodeText, MINE_ALONE, PROPERTY } from './properties.ts';
import { type DatasetRecord, keysOf } from './records.ts';

const BLOCK_MIN = 4096;
const BLOCK_MAX = 128 * 1024;
const BLOCK_DEFAULT = 16 * 1024;

/** Rounded up to whole blocks. */
export function checkedSize(size: number, blockSize: number): number {
  const rounded = Math.ceil(size / blockSize) * blockSize;
  if (size > 0 && Number.isSafeInteger(rounded)) return rounded;
  throw new ManagerError('SIZE_INVALID', `${size} bytes cannot be the size of a volume`);
}

export function checkedBlockSize(blockSize = BLOCK_DEFAULT): number {
  const isPowerOfTwo = Number.isInteger(Math.log2(blockSize));
  if (isPowerOfTwo && blockSize >= BLOCK_MIN && blockSize <= BLOCK_MAX) return blockSize;
  throw new ManagerError(
    'SIZE_INVALID',
    `${blockSize} cannot be a block size: it is a power of two from ${BLOCK_MIN} to ${BLOCK_MAX}`,
  );
}

/** Of names and values that ZFS may refuse, but never take for something else. */
export function propertySettings(properties: VolumeProperties = {}): Settings {
  return Object.fromEntries(
    Object.entries(properties).map(([name, value]) => [
      checkedProperty(name),
      checkedValue(name, value),
    ]),
  );
}

export function checkedProperty(name: string): string {
  if ((VOLUME_PROPERTIES as readonly string[]).includes(name)) return name;
  throw new ManagerError(
    'PROPERTY_INVALID',
    `${JSON.stringify(name)} is not a property of volumes: ${VOLUME_PROPERTIES.join(', ')} are`,
  );
}

function checkedValue(name: string, value: string): string {
  if (/^[a-z0-9-]{1,32}$/i.test(value)) return value;
  throw new ManagerError('PROPERTY_INVALID', `${name} cannot be ${JSON.stringify(value)}`);
}

export function createSettings(wish: CreateVolume, key: string, uuid: string): Settings {
  return {
    volblocksize: String(checkedBlockSize(wish.blockSize)),
    ...encryptionSettings(wish.encryption),
    ...propertySettings(wish.properties),
    [PROPERTY.uuid]: uuid,
    [PROPERTY.name]: encodeText(wish.name ?? key),
    [PROPERTY.description]: encodeText(wish.description ?? ''),
    [PROPERTY.keys]: encodeRecord(wish.keys ?? {}),
    [PROPERTY.sharable]: onOff(wish.sharable),
    [PROPERTY.cbt]: 'off',
  };
}

function encryptionSettings(encryption: EncryptionKey | undefined): Settings {
  if (!encryption) return {};
  return { encryption: 'on', keyformat: encryption.format, keylocation: 'prompt' };
}

/** ZFS reads text up to the end of a line, a raw key as it is. */
export function keyInput({ format, key }: EncryptionKey): Buffer {
  const [minimum, maximum] = { raw: [32, 32], hex: [64, 64], passphrase: [8, 512] }[format];
  const text = format === 'raw' ? key : Buffer.from(key.toString('utf8').replace(/\r?\n$/, ''));
  const isLine = format === 'raw' || !text.includes(10);
  if (isLine && text.length >= (minimum ?? 0) && text.length <= (maximum ?? 0)) {
    return format === 'raw' ? text : Buffer.concat([text, Buffer.from('\n')]);
  }
  const expected = minimum === maximum ? `${minimum}` : `${minimum} to ${maximum}`;
  throw new ManagerError('KEY_WRONG', `a ${format} key has ${expected} bytes, in one line`);
}

/** A snapshot's own, so that they do not change with its volume's. */
export function snapshotSettings(
  volume: DatasetRecord,
  wish: SnapshotVolume,
  uuid: string,
): Settings {
  return {
    ...copiedSettings(volume, wish, uuid),
    [PROPERTY.of]: volume.own.get(PROPERTY.uuid) ?? '',
    ...(wish.job !== undefined && { [PROPERTY.job]: wish.job }),
  };
}

export function cloneSettings(source: DatasetRecord, wish: CloneVolume, uuid: string): Settings {
  return {
    ...propertySettings({ ...ownOf(source), ...wish.properties }),
    ...copiedSettings(source, wish, uuid),
    [PROPERTY.from]: source.own.get(PROPERTY.uuid) ?? '',
  };
}

function copiedSettings(source: DatasetRecord, wish: SnapshotVolume, uuid: string): Settings {
  const { own } = source;
  const textOr = (text: string | undefined, property: string) =>
    text === undefined ? (own.get(property) ?? '%') : encodeText(text);
  return {
    [PROPERTY.uuid]: uuid,
    [PROPERTY.name]: textOr(wish.name, PROPERTY.name),
    [PROPERTY.description]: textOr(wish.description, PROPERTY.description),
    [PROPERTY.keys]: encodeRecord(wish.keys ?? {}),
    [PROPERTY.sharable]: 'off',
    [PROPERTY.cbt]: own.get(PROPERTY.cbt) ?? 'off',
  };
}

function ownOf({ own }: DatasetRecord): VolumeProperties {
  const set = VOLUME_PROPERTIES.filter((name) => own.has(name));
  return Object.fromEntries(set.map((name) => [name, own.get(name)]));
}

/** What a volume that is reverted keeps. */
export function identitySettings(volume: DatasetRecord): Settings {
  const lost: readonly string[] = MINE_ALONE;
  const kept = [...volume.own].filter(
    ([name]) => name.startsWith('ringdisk:') && !lost.includes(name),
  );
  return { ...propertySettings(ownOf(volume)), ...Object.fromEntries(kept) };
}

export function metadataSettings(record: DatasetRecord, change: MetadataChange): Settings {
  const settings: Settings = {};
  if (change.name !== undefined) settings[PROPERTY.name] = encodeText(change.name);
  if (change.description !== undefined) {
    settings[PROPERTY.description] = encodeText(change.description);
  }
  if (change.cbtEnabled !== undefined) settings[PROPERTY.cbt] = onOff(change.cbtEnabled);
  if (change.keys) settings[PROPERTY.keys] = encodeRecord(changedKeys(keysOf(record), change.keys));
  return settings;
}

export function changedKeys(
  keys: Record<string, string>,
  change: Record<string, string | null>,
): Record<string, string> {
  const all: Record<string, string | null> = { ...keys, ...change };
  return Object.fromEntries(
    Object.entries(all).filter((entry): entry is [string, string] => entry[1] !== null),
  );
}

export function onOff(flag: boolean | undefined): 'on' | 'off' {
  return flag ? 'on' : 'off';
}
