// SPDX-License-Identifier: Apache-2.0
// The script in a flame graph's page (src/flamegraph/html.ts); bundle.mjs makes one file of it.
import flamegraph from 'd3-flame-graph';
import { select } from 'd3-selection';

globalThis.drawFlamegraph = ({ root, colours }) => {
  const { document } = globalThis;
  const element = (id) => document.getElementById(id);
  const chart = flamegraph()
    .width(document.body.clientWidth)
    .cellHeight(17)
    .minFrameSize(1)
    .setColorMapper((frame, original) =>
      frame.highlight ? original : (colours[frame.data.kind] ?? original),
    )
    .setDetailsElement(element('details'));
  select('#chart').datum(root).call(chart);
  element('search').addEventListener('input', ({ target }) => {
    if (target.value === '') chart.clear();
    else chart.search(target.value);
  });
  element('reset').addEventListener('click', () => chart.resetZoom());
};
