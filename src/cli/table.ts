// SPDX-License-Identifier: Apache-2.0
// Plain tables for people. Programs read --json.
import { showText } from '../text.ts';

export interface Column<Row> {
  title: string;
  /** Numbers line up on their right edge. */
  right?: boolean;
  value(row: Row): string;
}

/** The lines of a table, without trailing blanks; a title line first. */
export function formatTable<Row>(columns: Column<Row>[], rows: Row[]): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.value(row))));
  const titles = columns.map((column) => column.title);
  const widths = columns.map((_, index) =>
    Math.max(...[titles, ...cells].map((line) => line[index]?.length ?? 0)),
  );
  const format = (line: string[]) =>
    line
      .map((cell, index) => pad(cell, widths[index] ?? 0, columns[index]?.right === true))
      .join('  ')
      .trimEnd();
  return [titles, ...cells].map(format).join('\n');
}

/** "name: value" lines with the values in one column. */
export function formatFields(fields: [name: string, value: string][]): string {
  const width = Math.max(...fields.map(([name]) => name.length)) + 1;
  return fields
    .map(([name, value]) => `${`${name}:`.padEnd(width)} ${printable(value)}`)
    .join('\n');
}

function pad(cell: string, width: number, right: boolean): string {
  return right ? cell.padStart(width) : cell.padEnd(width);
}

/**
 * A guest or a toolstack wrote some of what we print: no control characters reach a terminal, and
 * bytes that are no text are told apart.
 */
export function printable(text: string): string {
  return showText(text).replaceAll(/\p{Cc}/gu, '?');
}
