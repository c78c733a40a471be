// SPDX-License-Identifier: Apache-2.0
// Images and NBD's clients, by the programs that make and are them.
import { execFile, execFileSync } from 'node:child_process';
import { promisify } from 'node:util';
import { EXPORT_NAME } from '../../src/formats/helper_command.ts';
import {
  helperFiles,
  imagesFolder,
  listHelpers,
  readHelperRecord,
} from '../../src/formats/helper_record.ts';
import { isAlive } from '../../src/formats/watch_helper.ts';

/** Throws with what the program said. */
export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** As run(), while this process goes on: it may be what the program speaks to. */
export async function runAside(program: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(program, args);
  return stdout;
}

/** `base`: its format and its path. */
export function makeImage(
  format: string,
  file: string,
  size: string | undefined,
  base?: readonly [format: string, file: string],
): string {
  const based = base ? ['-F', base[0], '-b', base[1]] : [];
  run('qemu-img', 'create', '-q', '-f', format, ...based, file, ...(size ? [size] : []));
  return file;
}

export function nbdUri(socket: string): string {
  return `nbd+unix:///${EXPORT_NAME}?socket=${encodeURIComponent(socket)}`;
}

/** Each a command of qemu-io, such as "write -P 1 0 64k". */
export function qemuIo(socket: string, ...commands: string[]): string {
  const args = commands.flatMap((command) => ['-c', command]);
  return run('qemu-io', '-f', 'raw', ...args, nbdUri(socket));
}

/** Of one daemon, which they outlive when it is killed. */
export function killHelpers(runtimeDir: string): void {
  const folder = imagesFolder(runtimeDir);
  for (const key of listHelpers(folder)) {
    const record = readHelperRecord(helperFiles(folder, key));
    if (record && isAlive(record)) process.kill(record.pid, 'SIGKILL');
  }
}
