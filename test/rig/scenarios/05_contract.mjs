// SPDX-License-Identifier: Apache-2.0
// The contract suites on real Xen: the xenstore client against xenstored, over its socket and over
// /dev/xen/xenbus; grants and event channels against the kernel's devices. They entitle us to trust
// the loopback platform that all other tests use.
import { PROJECT } from '../dom0/daemon.mjs';
import { note } from '../dom0/report.mjs';
import { run } from '../dom0/shell.mjs';

const SUITE = `${PROJECT}/out/contract/test/contract/xenstore_live.js`;
const LOG = '/host/logs/xenstore_contract.log';
const SUITE_MS = 240_000;

async function xenstoreContract() {
  const blame = `{ grep -A 1 '^FAIL' ${LOG} || tail -n 6 ${LOG}; exit 1; }`;
  const script = `node ${SUITE} > ${LOG} 2>&1 || ${blame}`;
  await run('bash', ['-c', script], { timeoutMs: SUITE_MS });
}

// dom0 grants to itself and binds its own ports: nobody else is needed to play the other side.
async function platformContract() {
  await run('modprobe', ['xen-gntalloc']);
  const script = 'RINGDISK_TEST_PLATFORM=xen /host/platform_contract_tests --no-colors';
  const said = await run('bash', ['-c', `${script} 2>&1 | tail -n 30`]);
  const summary = /test cases:\s*(\d+) \|\s*(\d+) passed \|\s*0 failed/.exec(said);
  if (!summary) throw new Error(said);
  note(`${summary[2]} of ${summary[1]} cases`);
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'contract',
    daemon: 'none',
    tests: {
      'the xenstore client on a real xenstored': xenstoreContract,
      'grants and event channels of the kernel': platformContract,
    },
  },
];
