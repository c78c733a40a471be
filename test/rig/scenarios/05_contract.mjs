// SPDX-License-Identifier: Apache-2.0
// The contract suite of the xenstore client against the real xenstored, over its socket and over
// /dev/xen/xenbus: what entitles us to trust the in-memory store that all other tests use.
import { PROJECT } from '../dom0/daemon.mjs';
import { run } from '../dom0/shell.mjs';

const SUITE = `${PROJECT}/out/contract/test/contract/xenstore_live.js`;
const LOG = '/host/logs/xenstore_contract.log';
const SUITE_MS = 240_000;

async function xenstoreContract() {
  const blame = `{ grep -A 1 '^FAIL' ${LOG} || tail -n 6 ${LOG}; exit 1; }`;
  const script = `node ${SUITE} > ${LOG} 2>&1 || ${blame}`;
  await run('bash', ['-c', script], { timeoutMs: SUITE_MS });
}

/** @type {import('../dom0/catalogue.mjs').Scenario[]} */
export const scenarios = [
  {
    name: 'contract',
    daemon: 'none',
    tests: { 'the xenstore client on a real xenstored': xenstoreContract },
  },
];
