// SPDX-License-Identifier: Apache-2.0
// Which sectors of a volume another host's client has written, as its import marks them
// (plugin/ringdisk_import.py), and what is done with that when the volume's contents are to lie on
// top of another one's. ZFS knows no more than blocks, in which one sector may be new and the next
// may never have been written. The marks go with the host, as the client does.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../package_root.ts';
import type { VolumeInfo } from '../volume/manager_types.ts';
import { backendFailure, SmapiError } from './errors.ts';
import type { VolumeName } from './uri.ts';

const PROGRAM = path.join(packageRoot, 'src/smapi/plugin/ringdisk_compose.py');
export const PYTHON = '/usr/bin/python3';

export class WrittenMarks {
  readonly #folder: string;

  constructor(runtimeDir: string) {
    this.#folder = path.join(runtimeDir, 'written');
  }

  /** For an import; the folder is there. */
  file(name: VolumeName): string {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    return this.#file(name);
  }

  /** Others have written to the volume, or it is gone: what is marked is not all. */
  forget(name: VolumeName): void {
    rmSync(this.#file(name), { force: true });
  }

  /**
   * What was written to `child` is written to `parent`; both are closed. The bytes that were
   * copied. Throws SmapiError; `parent` is not what it was then, and a second time does the rest.
   */
  async layer(child: VolumeInfo, parent: VolumeInfo): Promise<number> {
    const marks = this.#file({ sr: child.pool, key: child.key });
    if (!existsSync(marks)) {
      throw backendFailure(46, `what was written to ${child.key} since it was made is not known`);
    }
    if (child.device === undefined || parent.device === undefined) {
      throw backendFailure(46, `${child.key} and ${parent.key} are not both volumes`);
    }
    try {
      const words = ['-IS', PROGRAM, marks, child.device, parent.device];
      const { stdout } = await promisify(execFile)(PYTHON, words);
      return Number(stdout);
    } catch (error) {
      const { stderr = '', message } = error as Error & { stderr?: string };
      const why = stderr.trim() || message;
      throw new SmapiError('SR_BACKEND_FAILURE', ['', 'COMPOSE', why], { cause: error });
    }
  }

  #file({ sr, key }: VolumeName): string {
    return path.join(this.#folder, encodeURIComponent(`${sr}/${key}`));
  }
}
