// SPDX-License-Identifier: Apache-2.0
// A report: all that was measured as JSON, tables as Markdown and on the terminal, charts as SVG.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { renderChart } from './chart.mjs';
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
 * @property {import('./chart.mjs').Chart[]} charts
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
export async function writeReport(report, folder, name) {
  mkdirSync(folder, { recursive: true });
  const text = markdown(report);
  const pictures = [];
  for (const chart of report.charts) {
    const file = `${name}-${chart.name}.svg`;
    writeFileSync(path.join(folder, file), await renderChart(chart));
    pictures.push(`![${chart.title}](${file})\n`);
  }
  writeFileSync(path.join(folder, `${name}.md`), [text, ...pictures].join('\n'));
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(report.data, null, 1)}\n`);
  console.log(`\n${text}\nreport: ${path.join(folder, name)}.md, .json, ${pictures.length} charts`);
}
