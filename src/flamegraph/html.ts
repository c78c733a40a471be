// SPDX-License-Identifier: Apache-2.0
// A profile as a page that can be searched and zoomed into, complete in itself: d3-flame-graph, as
// the build put it into dist/, draws it.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { packageRoot } from '../package_root.ts';
import type { Frame } from './fold.ts';
import { COLOURS, escaped } from './svg.ts';

/** Returns the page's text. `title` and `subtitle` stand above the picture. */
export function renderHtml(root: Frame, title: string, subtitle: string): string {
  const script = readFileSync(path.join(packageRoot, 'dist/flamegraph_page.js'), 'utf8');
  const colours = Object.fromEntries(Object.entries(COLOURS).map(([kind, [fill]]) => [kind, fill]));
  // "</script>" in a name would end the script.
  const data = JSON.stringify({ root, colours }).replaceAll('<', '\\u003c');
  return `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>${escaped(title)}</title>
<style>
  body { font: 13px monospace; margin: 10px }
  .d3-flame-graph rect { stroke: #fff }
  .d3-flame-graph-label {
    font: 11px monospace; margin-left: 4px; pointer-events: none;
    overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  }
</style>
<h3>${escaped(title)}</h3>
<p>${escaped(subtitle)}</p>
<p>
  <input id="search" placeholder="search"> <button id="reset">all</button>
  <span id="details"></span>
</p>
<div id="chart"></div>
<script>${script}</script>
<script>drawFlamegraph(${data})</script>
</html>
`;
}
