// SPDX-License-Identifier: Apache-2.0
// Runs the xenstore contract against the living xenstored of this machine, over every way to reach
// it (or those given as arguments): plain node, no test framework, for a dom0 that has nothing
// else. Prints a line per case; exit status 1 when one fails.
import { existsSync } from 'node:fs';
import { inspect } from 'node:util';
import { openXenstore } from '../../src/xenstore/connection.ts';
import { runXenstoreCase, type XenstoreCase, xenstoreCases } from './xenstore_cases.ts';

const prefix = '/tool/ringdisk-test';
const device = '/dev/xen/xenbus';

async function passes(place: string, testCase: XenstoreCase): Promise<boolean> {
  try {
    await runXenstoreCase(() => openXenstore({ path: place }), prefix, testCase);
    console.log(`ok    ${place}: ${testCase.name}`);
    return true;
  } catch (error) {
    console.log(`FAIL  ${place}: ${testCase.name}\n${inspect(error)}`);
    return false;
  }
}

async function runAll(places: string[]): Promise<number> {
  let failed = 0;
  for (const place of places) {
    for (const testCase of xenstoreCases) failed += (await passes(place, testCase)) ? 0 : 1;
    const client = await openXenstore({ path: place });
    await client.remove(prefix);
    await client.close();
  }
  return failed;
}

const places = process.argv.slice(2);
if (places.length === 0) {
  places.push(...['/run/xenstored/socket', device].filter((place) => existsSync(place)));
}
if (places.length === 0) throw new Error('there is no xenstore on this machine');
const failed = await runAll(places);
console.log(`${failed} of ${xenstoreCases.length * places.length} xenstore cases failed`);
if (places.includes(device)) {
  console.log('exiting with a read of the device under way: that must not hang');
  await openXenstore({ path: device });
}
process.exit(failed === 0 ? 0 : 1);
