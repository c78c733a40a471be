// SPDX-License-Identifier: Apache-2.0
// Bars with their extremes, side by side, as an SVG that needs nothing else.
import { parse, View } from 'vega';
import { compile } from 'vega-lite';

/**
 * @typedef {object} Bar
 * @property {string} group  what was done
 * @property {string} series by whom
 * @property {number} median
 * @property {number} min
 * @property {number} max
 *
 * @typedef {object} Chart
 * @property {string} name   of its file, without an extension
 * @property {string} title
 * @property {string} axis   what the bars' heights are, with the unit
 * @property {number} [line] drawn across, as what one wants to reach
 * @property {string[]} series in the order they are drawn
 * @property {Bar[]} bars
 */

const GROUP_WIDTH = 140;
const HEIGHT = 260;
const LEGEND = { orient: 'bottom', labelLimit: 0 };
/** A label breaks at its commas. */
const LABELS = { labelAngle: 0, labelLimit: 0, labelExpr: "split(datum.label, ', ')" };

/** @param {Chart} chart @returns {Promise<string>} SVG */
export async function renderChart(chart) {
  const spec = /** @type {any} */ (specification(chart));
  const view = new View(parse(compile(spec).spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/** @param {Chart} chart */
function specification({ title, axis, line, series, bars }) {
  const groups = [...new Set(bars.map(({ group }) => group))];
  const encoding = {
    x: { field: 'group', sort: groups, title: null, axis: LABELS },
    xOffset: { field: 'series', sort: series },
  };
  const height = { type: 'quantitative', title: axis };
  const layer = [
    {
      mark: 'bar',
      encoding: {
        ...encoding,
        y: { field: 'median', ...height },
        color: { field: 'series', type: 'nominal', sort: series, title: null, legend: LEGEND },
      },
    },
    {
      mark: { type: 'rule', strokeWidth: 1.5 },
      encoding: { ...encoding, y: { field: 'min', ...height }, y2: { field: 'max' } },
    },
  ];
  const wanted = { mark: { type: 'rule', strokeDash: [4, 3] }, encoding: { y: { datum: line } } };
  return {
    title,
    width: groups.length * GROUP_WIDTH,
    height: HEIGHT,
    background: 'white',
    data: { values: bars },
    layer: line === undefined ? layer : [...layer, /** @type {any} */ (wanted)],
  };
}
