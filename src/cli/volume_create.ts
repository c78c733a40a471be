// SPDX-License-Identifier: Apache-2.0
// Making volumes, their properties and their keys.
import { readSync } from 'node:fs';
import { type Command, InvalidArgumentError } from 'commander';
import { parseSize } from '../target/size.ts';
import { VOLUME_PROPERTIES, type VolumeProperty } from '../volume/manager_types.ts';
import { UsageError } from './exit_code.ts';
import { collect } from './repeated.ts';
import { printVolume } from './volume_text.ts';
import {
  addManagerOptions,
  type ManagerOptions,
  parseVolume,
  VOLUME_ARGUMENT,
  withManager,
} from './with_manager.ts';

export interface Labels {
  name?: string;
  description?: string;
}

export function addLabels(command: Command): Command {
  return command
    .option('--name <text>', 'for people; need not be unique')
    .option('--description <text>', 'for people');
}

export interface PropertyOptions {
  property?: string[];
}

interface CreateOptions extends ManagerOptions, Labels, PropertyOptions {
  blockSize?: number;
  thick?: boolean;
  keyFd?: number;
  keyFormat: 'passphrase' | 'raw' | 'hex';
}

export function addCreate(parent: Command): void {
  const command = parent
    .command('create')
    .description('make a volume')
    .argument('<volume>', VOLUME_ARGUMENT)
    .argument('<size>', 'such as 20G', parseBytes)
    .option(
      '--block-size <size>',
      'from 4K to 128K; can never be changed (default: 16K)',
      parseBytes,
    )
    .option('--thick', 'reserve all of its size, so that a full pool does not stop it')
    .option(
      '--property <name=value>',
      `of ZFS, may be repeated: ${VOLUME_PROPERTIES.join(', ')}`,
      collect,
    )
    .option('--key-fd <n>', 'encrypt it, with the key that is read from this descriptor', parseFd)
    .option('--key-format <format>', 'passphrase, raw (32 bytes) or hex', 'passphrase')
    .addHelpText(
      'after',
      '\nExample: one that is encrypted\n  ringdisk volume create tank/vm1 20G --key-fd 3 3< key',
    );
  addManagerOptions(addLabels(command)).action(
    async (text: string, size: number, options: CreateOptions) => {
      const { name, description, blockSize, thick, property } = options;
      const encryption = options.keyFd === undefined ? undefined : readKey(options.keyFd, options);
      const wish = { ...parseVolume(text), name, description, size, blockSize, thick, encryption };
      const properties = property && parseProperties(property);
      const { volume } = await withManager(options, (client) =>
        client.call('createVolume', { ...wish, properties }),
      );
      printVolume('create', options, volume);
    },
  );
}

const KEY_BYTES_MAX = 1024;

/** From a descriptor: arguments and the environment are for all to see. */
function readKey(fd: number, { keyFormat }: { keyFormat: CreateOptions['keyFormat'] }) {
  const buffer = Buffer.alloc(KEY_BYTES_MAX + 1);
  let length = 0;
  for (;;) {
    const read = readSync(fd, buffer, length, buffer.length - length, null);
    length += read;
    if (read === 0 || length > KEY_BYTES_MAX) break;
  }
  if (length === 0 || length > KEY_BYTES_MAX) {
    throw new UsageError(`Descriptor ${fd} holds no key of at most ${KEY_BYTES_MAX} bytes.`);
  }
  return { format: keyFormat, key: buffer.subarray(0, length).toString('base64') };
}

export function parseProperties(pairs: string[]): Partial<Record<VolumeProperty, string>> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const [, name, value] = /^([a-z]+)=(.+)$/.exec(pair) ?? [];
      if ((VOLUME_PROPERTIES as readonly (string | undefined)[]).includes(name))
        return [name, value];
      throw new UsageError(
        `${JSON.stringify(pair)} is none of ${VOLUME_PROPERTIES.map((p) => `${p}=`).join(', ')}.`,
      );
    }),
  );
}

interface KeyOptions extends ManagerOptions {
  keyFd: number;
  keyFormat: CreateOptions['keyFormat'];
}

export function addKeys(parent: Command): void {
  const load = parent
    .command('load-key')
    .description('give ZFS the key of an encrypted volume')
    .argument('<volume>', VOLUME_ARGUMENT)
    .option('--key-fd <n>', 'the descriptor that it is read from', parseFd, 0)
    .option('--key-format <format>', 'passphrase, raw or hex', 'passphrase');
  addManagerOptions(load).action(async (text: string, options: KeyOptions) => {
    const encryption = readKey(options.keyFd, options);
    const { volume } = await withManager(options, (client) =>
      client.call('loadKey', { ...parseVolume(text), encryption }),
    );
    printVolume('load-key', options, volume);
  });
  const unload = parent
    .command('unload-key')
    .description('have ZFS forget the key of a volume that nobody uses')
    .argument('<volume>', VOLUME_ARGUMENT);
  addManagerOptions(unload).action(async (text: string, options: ManagerOptions) => {
    const { volume } = await withManager(options, (client) =>
      client.call('unloadKey', parseVolume(text)),
    );
    printVolume('unload-key', options, volume);
  });
}

export function parseBytes(text: string): number {
  const bytes = parseSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It is no size such as 20G.');
  return bytes;
}

function parseFd(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is no number of a descriptor.');
}
