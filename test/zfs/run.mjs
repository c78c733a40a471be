#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Tests the volume manager on real ZFS: boots the rig's dom0 without Xen, runs test/zfs/machine in
// it and says what passed.
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Follower } from '../rig/host/follow.mjs';
import { boot, buildImage, obstacle } from '../rig/host/machine.mjs';
import { stageProject } from '../rig/host/stage.mjs';

const HELP = `usage: node test/zfs/run.mjs [--only PATTERN] [--keep] [--share DIR] [--limit S]

  --only PATTERN  only tests whose name matches this regular expression (case ignored)
  --keep          keep the shared folder even when all tests pass
  --share DIR     use this folder as the shared one (default: a new one; kept on failure)
  --limit S       end the machine after so many seconds (default 480)

Environment: RINGDISK_RIG_DIR (image cache, default ~/.cache/ringdisk-rig), RIG_MIRROR.`;

const BOOT = fileURLToPath(new URL('boot.sh', import.meta.url));
const MACHINE = fileURLToPath(new URL('machine', import.meta.url));

/** @returns {Promise<number>} exit status */
async function main() {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      keep: { type: 'boolean', default: false },
      share: { type: 'string' },
      limit: { type: 'string', default: '480' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return say(HELP, 0);
  const why = obstacle();
  if (why) return say(`the tests can't run here: ${why}`, 2);
  const image = buildImage({ zfs: true });
  const share = resolve(values.share ?? mkdtempSync(join(tmpdir(), 'ringdisk-zfs-')));
  mkdirSync(share, { recursive: true });
  stageProject(share);
  rmSync(join(share, 'tests'), { recursive: true, force: true });
  cpSync(MACHINE, join(share, 'tests'), { recursive: true });
  writeFileSync(join(share, 'plan.json'), JSON.stringify({ only: values.only }));
  const { passed, failed } = await bootAndFollow(image, share, values.limit);
  if (failed > 0 || values.keep || values.share !== undefined) console.log(`logs: ${share}/logs`);
  else rmSync(share, { recursive: true, force: true });
  return say(`${passed} passed, ${failed} failed`, failed > 0 || passed === 0 ? 1 : 0);
}

/** @param {string} image @param {string} share @param {string} limit seconds */
async function bootAndFollow(image, share, limit) {
  const results = join(share, 'results.jsonl');
  rmSync(results, { force: true });
  writeFileSync(join(share, 'dom0_job'), 'exec node /host/tests/main.mjs\n');
  const follower = new Follower(results);
  const whileRunning = () => follower.poll();
  const code = await boot(image, share, { limit, script: BOOT, whileRunning });
  if (code !== 0 || !follower.tally.ended) {
    follower.tally.failed += 1;
    console.log(`FAIL the machine ends well: exit ${code}; see ${share}/logs/console.log`);
  }
  return follower.tally;
}

/** @param {string} text @param {number} status */
function say(text, status) {
  console.log(text);
  return status;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`zfs: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 2;
}
