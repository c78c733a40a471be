// SPDX-License-Identifier: Apache-2.0
// The volume manager's process with SMAPI's socket, over a ZFS that is played: node manager.mjs
// RUNTIME_DIR VOLUMES. Says "ready", and its CPU time when it ends.
import { createLogger } from '../../dist/log.js';
import { startSmapi } from '../../dist/smapi/smapi.js';
import { openManager } from '../../dist/volume/manager.js';
import { fakeZfs } from './fake_zfs.mjs';

const [, , runtimeDir = '', volumes] = process.argv;
const log = createLogger({ level: 'warn' });
const manager = await openManager(log, fakeZfs(Number(volumes)));
const places = { folder: `${runtimeDir}/metrics`, rrddSocket: `${runtimeDir}/none` };
const daemonRuntimeDir = runtimeDir;
await startSmapi({ manager, runtimeDir, daemonRuntimeDir, log, metrics: places });
const before = process.cpuUsage();
process.once('SIGTERM', () => {
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${(user + system) / 1000}\n`, () => process.exit());
});
process.stdout.write('ready\n');
