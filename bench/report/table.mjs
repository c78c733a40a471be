// SPDX-License-Identifier: Apache-2.0
// One table for both the terminal and Markdown: a Markdown table whose columns are aligned.

/**
 * @param {string[]} titles
 * @param {string[][]} rows cells, as many as there are titles
 * @returns {string}
 */
export function table(titles, rows) {
  const width = titles.map((title, column) =>
    Math.max(title.length, 3, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (/** @type {string[]} */ cells) =>
    `| ${cells.map((cell, column) => pad(cell, width[column] ?? 0, column)).join(' | ')} |`;
  const rule = width.map((columns, column) =>
    column === 0 ? '-'.repeat(columns) : `${'-'.repeat(columns - 1)}:`,
  );
  return [line(titles), line(rule), ...rows.map(line)].join('\n');
}

/** @param {string} cell @param {number} width @param {number} column */
function pad(cell, width, column) {
  return column === 0 ? cell.padEnd(width) : cell.padStart(width);
}
