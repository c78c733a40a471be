// SPDX-License-Identifier: Apache-2.0
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = ['native', 'src', 'test', 'bench', '.ci'];

export interface SourceFile {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
  readonly lines: string[];
}

/** Every file below the folders of the repository that hold code. */
export function sourceFiles(): SourceFile[] {
  return FOLDERS.flatMap((folder) => filesBelow(folder)).map((file) => {
    const text = readFileSync(path.join(ROOT, file), 'utf8');
    return { path: file, text, lines: text.split('\n') };
  });
}

function filesBelow(folder: string): string[] {
  const absolute = path.join(ROOT, folder);
  let entries: ReturnType<typeof readEntries>;
  try {
    entries = readEntries(absolute);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return entries.flatMap((entry) => {
    const file = path.join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(file) : [file];
  });
}

function readEntries(absolute: string) {
  return readdirSync(absolute, { withFileTypes: true });
}
