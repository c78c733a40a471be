// SPDX-License-Identifier: Apache-2.0
// A profile as one static picture, which a page can show as it is. The layout is d3's.
import { type HierarchyRectangularNode, hierarchy, partition } from 'd3-hierarchy';
import type { Frame, Kind } from './fold.ts';

const WIDTH = 1200;
const ROW = 17;
const MARGIN = 10;
const HEADER = 62;
const LETTER = 6.7;
/** What is narrower than this many pixels is left out. */
const WIDTH_MIN = 0.4;

export const COLOURS: Record<Kind, [fill: string, what: string]> = {
  ringdisk: ['#f0a04b', 'ringdisk'],
  kernel: ['#8fb8de', 'kernel'],
  node: ['#9ccc8f', 'Node'],
  library: ['#d9cf8b', 'libraries'],
  unknown: ['#e06c75', 'unknown'],
  thread: ['#c9c9c9', 'thread'],
};

/** Returns the SVG's text. `title` and `subtitle` stand above the picture. */
export function renderSvg(root: Frame, title: string, subtitle: string): string {
  const nodes = layOut(root);
  const depth = Math.max(...nodes.map((node) => node.depth)) + 1;
  const height = HEADER + depth * ROW + MARGIN;
  const size = `width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="monospace" font-size="11">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="100%" height="100%" fill="#fff"/>`,
    `<text x="${MARGIN}" y="20" font-size="15" font-weight="bold">${escaped(title)}</text>`,
    `<text x="${MARGIN}" y="37">${escaped(subtitle)}</text>`,
    legend(),
    ...nodes.map((node) => rectangle(node, root.value, height)),
    '</svg>\n',
  ].join('\n');
}

function layOut(root: Frame): HierarchyRectangularNode<Frame>[] {
  const inside = WIDTH - 2 * MARGIN;
  const tree = hierarchy(root)
    // A frame's own samples are what its children leave: d3 wants only those.
    .sum(({ value, children }) => children.reduce((rest, child) => rest - child.value, value))
    .sort((a, b) => (a.data.name < b.data.name ? -1 : 1));
  const laid = partition<Frame>().size([inside, tree.height + 1])(tree);
  return laid.descendants().filter(({ x0, x1 }) => x1 - x0 >= WIDTH_MIN);
}

function rectangle(
  { x0, x1, depth, data }: HierarchyRectangularNode<Frame>,
  all: number,
  height: number,
): string {
  const x = MARGIN + x0;
  const width = x1 - x0;
  const y = height - MARGIN - (depth + 1) * ROW;
  const share = ((100 * data.value) / Math.max(all, 1)).toFixed(1);
  const letters = Math.floor((width - 6) / LETTER);
  // The colour says whose it is.
  const label = letters < 3 ? '' : shortened(data.name.replace(/^ringdisk::/, ''), letters);
  const text = label && `<text x="${(x + 3).toFixed(1)}" y="${y + 12}">${escaped(label)}</text>`;
  const box = `x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${ROW - 1}"`;
  const [fill] = COLOURS[data.kind];
  const tip = escaped(`${data.name} (${data.value} samples, ${share} %)`);
  return `<g><title>${tip}</title><rect ${box} rx="1" fill="${fill}"/>${text}</g>`;
}

function legend(): string {
  const entries = Object.values(COLOURS).map(([fill, what], index) => {
    const x = MARGIN + index * 95;
    const box = `<rect x="${x}" y="45" width="11" height="11" fill="${fill}"/>`;
    return `${box}<text x="${x + 15}" y="54">${what}</text>`;
  });
  return entries.join('\n');
}

function shortened(name: string, letters: number): string {
  return name.length <= letters ? name : `${name.slice(0, letters - 1)}…`;
}

export function escaped(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return text.replaceAll(/[&<>"]/g, (letter) => entities[letter] ?? letter);
}
