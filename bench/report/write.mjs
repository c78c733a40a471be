// SPDX-License-Identifier: Apache-2.0
// A report: all that was measured as JSON, the tables as Markdown and on the terminal.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { table } from './table.mjs';

/**
 * @typedef {object} Table
 * @property {string} title
 * @property {string} [group] heading that it stands under
 * @property {string[]} titles
 * @property {string[][]} rows
 *
 * @typedef {object} Report
 * @property {string} title
 * @property {string[]} preface one paragraph each: how it was measured, what it is compared with
 * @property {Table[]} tables
 * @property {unknown} data   everything behind the tables
 */

/** @param {Report} report @returns {string} */
export function markdown({ title, preface, tables }) {
  const parts = [`# ${title}`, ...preface];
  let heading;
  for (const { title: caption, group, titles, rows } of tables) {
    if (group !== heading) parts.push(`## ${group}`);
    heading = group;
    parts.push(`### ${caption}`, table(titles, rows));
  }
  return `${parts.join('\n\n')}\n`;
}

/**
 * @param {Report} report
 * @param {string} folder made if need be
 * @param {string} name of the files, without an extension
 */
export function writeReport(report, folder, name) {
  mkdirSync(folder, { recursive: true });
  const text = markdown(report);
  writeFileSync(path.join(folder, `${name}.md`), text);
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(report.data, null, 1)}\n`);
  console.log(`\n${text}\nreport: ${path.join(folder, name)}.{md,json}`);
}
