// SPDX-License-Identifier: Apache-2.0
// Runs one step of a set-up or test run: a short line with its seconds, its output only on failure.
// Node builtins only.
import { spawn } from 'node:child_process';

const OUTPUT_TAIL_BYTES = 256 * 1024;

/**
 * Runs `command` and collects what it prints (its last 256 KiB).
 * Resolves to { ok, output, seconds }; never rejects: a command that cannot start is not ok.
 */
export function run(command, args, options = {}) {
  const started = performance.now();
  return new Promise((resolve) => {
    let output = '';
    const end = (ok, last = '') =>
      resolve({ ok, output: output + last, seconds: (performance.now() - started) / 1000 });
    const keep = (chunk) => {
      output = (output + chunk).slice(-OUTPUT_TAIL_BYTES);
    };
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.on('error', (error) => end(false, `${command}: ${error.message}\n`));
    child.on('close', (code) => end(code === 0));
  });
}

/** Runs `command` as the step `name`; prints one line, and the output where it failed. */
export async function step(name, command, args, options = {}) {
  const result = await run(command, args, options);
  const mark = result.ok ? 'ok' : 'FAILED';
  console.log(`  ${name.padEnd(32)} ${mark.padEnd(6)} ${result.seconds.toFixed(1).padStart(6)} s`);
  if (!result.ok) console.log(`\n$ ${[command, ...args].join(' ')}\n${result.output}`);
  return result;
}
