// SPDX-License-Identifier: Apache-2.0
// Medians with their extremes, and ratios to whom one is compared with.

/** @typedef {{ median: number, min: number, max: number, count: number }} Figure */

/** @param {number[]} values at least one @returns {Figure} */
export function figure(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (/** @type {number} */ index) => sorted[index] ?? Number.NaN;
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1), count: sorted.length };
}

/**
 * Three significant digits, without an exponent.
 * @param {number} value
 */
export function digits(value) {
  if (!Number.isFinite(value)) return '-';
  const size = Math.abs(value);
  if (size >= 1000) return String(Math.round(value));
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 0.1 || size === 0 ? value.toFixed(2) : value.toFixed(4);
}

/** @param {Figure} figure @returns {string} "12.3 [11.9-12.8]" */
export function shown({ median, min, max }) {
  return `${digits(median)} [${digits(min)}–${digits(max)}]`;
}
