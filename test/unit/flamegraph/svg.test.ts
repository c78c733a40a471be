// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import type { Frame, Kind } from '../../../src/flamegraph/fold.ts';
import { renderSvg } from '../../../src/flamegraph/svg.ts';

function frame(name: string, value: number, children: Frame[] = [], kind: Kind = 'kernel'): Frame {
  return { name, kind, value, children };
}

const ROOT = frame('all', 1000, [
  frame('std::map<int, "x">', 750, [frame('leaf', 250)], 'ringdisk'),
  frame('invisible', 0),
]);

/** Width in pixels of the rectangle that the tooltip names. */
function widthOf(svg: string, name: string): number {
  return Number(new RegExp(`<title>${name}.*? width="([\\d.]+)"`).exec(svg)?.[1]);
}

describe('renderSvg', () => {
  const svg = renderSvg(ROOT, 'a <title>', 'unknown frames: 0.00 %');

  it('gives each frame the width of its share', () => {
    expect(widthOf(svg, 'all')).toBe(1180);
    expect(widthOf(svg, 'std::map')).toBe(885);
    expect(widthOf(svg, 'leaf')).toBe(295);
    expect(svg).toContain('leaf (250 samples, 25.0 %)');
    expect(svg).not.toContain('invisible');
  });

  it('says what it was given, as text', () => {
    expect(svg).toContain('a &lt;title&gt;');
    expect(svg).toContain('unknown frames: 0.00 %');
    expect(svg).toContain('std::map&lt;int, &quot;x&quot;&gt;');
  });

  it('is a picture even of nothing', () => {
    expect(renderSvg(frame('all', 0), 'ringdisk', '')).toContain('</svg>');
  });
});
