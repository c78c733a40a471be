// SPDX-License-Identifier: Apache-2.0
// Style that no other tool enforces. A rule that is not checked here, by biome, by clang-format or
// by clang-tidy is not a rule.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { type SourceFile, sourceFiles } from './support/source_files.ts';

const FILE_LINES_MAX = 500;
const FUNCTION_LINES_MAX = 70;
const COLUMNS_MAX = 100;

const all = sourceFiles();
const code = all.filter((file) => /\.(ts|mjs|cc|h|sh)$/.test(file.path));
const typescript = all.filter((file) => /\.(ts|mjs)$/.test(file.path));
const cxx = all.filter((file) => /\.(cc|h)$/.test(file.path));

/** "path:line" of every line of `files` that matches. */
function matches(files: SourceFile[], pattern: RegExp): string[] {
  return files.flatMap((file) =>
    file.lines.flatMap((line, index) => (pattern.test(line) ? [`${file.path}:${index + 1}`] : [])),
  );
}

/** The rooms of native/, lowest first; ARCHITECTURE.md says what is in them. */
const ROOMS = [
  'base',
  'protocol',
  'metrics',
  'io',
  'platform',
  'grants',
  'medium',
  'worker',
  'targets',
  'channels',
  'reactor',
  'request',
  'ring',
  'nbd',
  'engine',
  'addon',
];

function roomOf(file: string): string {
  return file.split('/')[1] ?? '';
}

function below(files: SourceFile[], folder: string): SourceFile[] {
  return files.filter((file) => file.path.startsWith(folder));
}

function outside(files: SourceFile[], ...folders: string[]): SourceFile[] {
  return files.filter((file) => !folders.some((folder) => file.path.startsWith(folder)));
}

describe('every file', () => {
  it('names its licence first', () => {
    const isNamed = ({ lines }: SourceFile) => {
      const first = lines[0]?.startsWith('#!') ? lines[1] : lines[0];
      return /^(\/\/|#) SPDX-License-Identifier: Apache-2\.0$/.test(first ?? '');
    };
    expect(code.filter((file) => !isNamed(file)).map((file) => file.path)).toEqual([]);
  });

  it('has a name in snake_case', () => {
    const isSnakeCase = (file: SourceFile) =>
      /^[a-z0-9]+(_[a-z0-9]+)*(\.test|\.config)?\.[a-z]+$/.test(path.basename(file.path));
    expect(code.filter((file) => !isSnakeCase(file)).map((file) => file.path)).toEqual([]);
  });

  it(`has at most ${FILE_LINES_MAX} lines of ${COLUMNS_MAX} columns`, () => {
    const long = code.filter((file) => file.lines.length > FILE_LINES_MAX + 1);
    expect(long.map((file) => file.path)).toEqual([]);
    expect(matches(code, new RegExp(`.{${COLUMNS_MAX + 1}}`))).toEqual([]);
  });

  it('leaves nothing to do', () => {
    const others = outside(code, 'test/tidy.test.ts');
    expect(matches(others, /\b(TODO|FIXME|XXX|HACK)\b/)).toEqual([]);
  });
});

describe(`no function has more than ${FUNCTION_LINES_MAX} lines`, () => {
  it('in TypeScript', () => {
    // A test's describe() is a list of cases, not a function to follow.
    const files = outside(typescript, 'test/');
    expect(files.flatMap(longFunctions)).toEqual([]);
  });

  it('in C++', () => {
    expect(outside(cxx, 'test/').flatMap(longDefinitions)).toEqual([]);
  });
});

function longFunctions(file: SourceFile): string[] {
  const parsed = ts.createSourceFile(file.path, file.text, ts.ScriptTarget.Latest, true);
  const found: string[] = [];
  const lineOf = (position: number) => parsed.getLineAndCharacterOfPosition(position).line + 1;
  const visit = (node: ts.Node) => {
    if (ts.isFunctionLike(node) && 'body' in node && node.body) {
      const first = lineOf(node.getStart());
      if (lineOf(node.end) - first >= FUNCTION_LINES_MAX) found.push(`${file.path}:${first}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(parsed);
  return found;
}

/** clang-format starts a definition in column 0 or, within a class, 2, and ends it in the same. */
function longDefinitions(file: SourceFile): string[] {
  const found: string[] = [];
  let start = 0;
  for (const [index, line] of file.lines.entries()) {
    if (line === '' || /^(}|#|\/\/)/.test(file.lines[index - 1] ?? '')) start = index;
    const isDefinition = !/\b(namespace|class|struct|enum)\b/.test(file.lines[start] ?? '');
    if (/^}/.test(line) && isDefinition && index - start > FUNCTION_LINES_MAX) {
      found.push(`${file.path}:${start + 1}`);
    }
  }
  return found;
}

describe('the texts', () => {
  it('name no file or folder of ours that is not there', () => {
    const texts = readdirSync('.').filter((name) => name.endsWith('.md'));
    const named = texts.flatMap((text) =>
      [...readFileSync(text, 'utf8').matchAll(/`((?:native|src|test|bench)\/[\w./-]+)`/g)].map(
        ([, name]) => `${text}: ${name}`,
      ),
    );
    expect(named.length).toBeGreaterThan(50);
    expect(named.filter((one) => !existsSync(one.replace(/^.*: /, '')))).toEqual([]);
  });
});

describe('native/', () => {
  it('lists its sources, all of them, sorted', () => {
    const list = all.find((file) => file.path === 'native/sources.txt');
    const listed = list?.lines.filter((line) => line !== '' && !line.startsWith('#'));
    const present = below(cxx, 'native/').filter((file) => file.path.endsWith('.cc'));
    expect(listed).toEqual(present.map((file) => file.path).sort());
  });

  it('includes napi.h in the addon alone, and Xen in its platform alone', () => {
    const native = below(cxx, 'native/');
    expect(matches(outside(native, 'native/addon/'), /#include <napi\.h>/)).toEqual([]);
    const xen = /#include ["<](xen\/|platform\/xen\/)|"\/dev\/xen/;
    const allowed = ['native/platform/xen/', 'native/addon/', 'native/engine/'];
    expect(matches(outside(native, ...allowed), xen)).toEqual([]);
  });

  it('keeps all but the addon free of the platforms that there are', () => {
    const others = outside(below(cxx, 'native/'), 'native/addon/', 'native/platform/');
    expect(matches(others, /#include "platform\/(xen|loopback)\//)).toEqual([]);
  });

  it('is built of rooms that stand on each other: no include runs up', () => {
    const files = below(cxx, 'native/');
    const floors = new Map(ROOMS.map((room, floor) => [room, floor]));
    expect(new Set(files.map((file) => roomOf(file.path)))).toEqual(new Set(ROOMS));
    const up = files.flatMap((file) => {
      const floor = floors.get(roomOf(file.path)) ?? -1;
      const included = [...file.text.matchAll(/^#include "(\w+)\//gm)].map(
        ([, room]) => room ?? '',
      );
      const above = included.filter((room) => (floors.get(room) ?? Infinity) > floor);
      return above.map((room) => `${file.path} includes ${room}/`);
    });
    expect(up).toEqual([]);
  });

  it('checks and carries out requests without knowing where they came from', () => {
    const lines = below(cxx, 'native/protocol/').flatMap((file) => file.lines);
    const foreign = lines.filter((line) => /^#include "(?!protocol\/|base\/)/.test(line));
    expect(foreign).toEqual([]);
  });
});

describe('src/', () => {
  const source = below(typescript, 'src/');

  it('loads the addon in one place', () => {
    const others = outside(source, 'src/datapath/binding.ts');
    expect(matches(others, /['"]node-gyp-build['"]/)).toEqual([]);
  });

  it('does not know which platform it runs on, but for who lets a user choose one', () => {
    const others = outside(source, 'src/platform/', 'src/cli/', 'src/index.ts');
    expect(matches(others, /from '.*platform\/(xen|loopback)\w*\.ts'/)).toEqual([]);
  });

  it("knows xenstore by its interface in a VBD's life", () => {
    const concrete = /from '.*xenstore\/(connection|memory_\w+|session|link)\.ts'/;
    expect(matches(below(source, 'src/vbd/'), concrete)).toEqual([]);
  });

  it("has no files of a VBD's life that import each other in a circle", () => {
    const life = below(source, 'src/vbd/');
    const imports = new Map(life.map((file) => [file.path, importsOf(file)]));
    expect([...imports.keys()].filter((file) => importsItself(file, imports))).toEqual([]);
  });

  it('exports by name, and has no enums', () => {
    expect(matches(source, /^export default|^(export )?(const )?enum /)).toEqual([]);
  });
});

/** Also of types alone: whoever reads one file then has to read the other. */
function importsOf(file: SourceFile): string[] {
  const found = file.text.matchAll(/^(?:import|export)\b[^;]*? from '(\.[^']*)';$/gm);
  return [...found].map(([, name]) => path.join(path.dirname(file.path), name ?? ''));
}

/** Whether a file imports itself in the end. */
function importsItself(itself: string, imports: Map<string, string[]>): boolean {
  const seen = new Set<string>();
  const waiting = [...(imports.get(itself) ?? [])];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (file === itself) return true;
    if (seen.has(file)) continue;
    seen.add(file);
    waiting.push(...(imports.get(file) ?? []));
  }
  return false;
}
