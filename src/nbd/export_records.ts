// SPDX-License-Identifier: Apache-2.0
// What a daemon exports, for the one that comes after it: one file beside the control socket. It
// goes with the host.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { replaceFile } from '../replace_file.ts';
import { type ExportWish, exportWishSchema } from './export_wish.ts';

const FILE = 'exports.json';
const VERSION = 1;
const schema = v.object({ version: v.literal(VERSION), exports: v.array(v.unknown()) });
const named = v.object({ name: v.string() });

export class ExportRecords {
  readonly #file: string;

  constructor(runtimeDir: string) {
    this.#file = path.join(runtimeDir, FILE);
  }

  /**
   * None where there is no file. Throws an Error that says why it cannot be used. `tell`: of one
   * that cannot, which costs no other.
   */
  read(tell: (name: string, problem: string) => void): ExportWish[] {
    let text: string;
    try {
      text = readFileSync(this.#file, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
    const parsed = v.safeParse(schema, JSON.parse(text));
    if (!parsed.success) {
      throw new Error(`${this.#file} is not of this version: ${parsed.issues[0].message}`);
    }
    return parsed.output.exports.flatMap((value) => {
      const wish = v.safeParse(exportWishSchema, value);
      if (wish.success) return [wish.output];
      const name = v.is(named, value) ? value.name : '';
      tell(name, wish.issues[0].message);
      return [];
    });
  }

  write(exports: readonly ExportWish[]): void {
    replaceFile(this.#file, JSON.stringify({ version: VERSION, exports }));
  }
}
