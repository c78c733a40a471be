// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander';
import type { PlatformKind } from '../datapath/binding.ts';
import type { XenstoreClient } from '../xenstore/client.ts';
import { openXenstore } from '../xenstore/connection.ts';
import { readOwnDomid } from '../xenstore/own_domid.ts';
import { domainPath } from '../xenstore/paths.ts';
import { EXIT_CODE } from './exit_code.ts';
import { readHostFacts } from './host_facts.ts';
import { judgeHost, type Verdict } from './host_verdicts.ts';
import { printResult } from './output.ts';
import { giveUpPrivileges } from './privileges.ts';
import { formatTable, printable } from './table.ts';
import { addDaemonOptions, type DaemonOptions } from './with_daemon.ts';
import type { XenFacts } from './xen_facts.ts';

interface DoctorOptions extends DaemonOptions {
  platform: PlatformKind;
}

export function addDoctor(program: Command): void {
  const command = program
    .command('doctor')
    .description('check this host: what is missing, what breaks without it, what to do')
    .addOption(platformOption())
    .addHelpText('after', '\nExits with 1 if something fails.\n\nExample:\n  ringdisk doctor');
  addDaemonOptions(command).action(doctor);
}

export function platformOption(): Option {
  return new Option('--platform <platform>', 'real Xen, or a machine without a hypervisor')
    .choices(['xen', 'loopback'])
    .default('xen');
}

async function doctor(options: DoctorOptions): Promise<void> {
  // What is found is what the daemon will find. An addon that does not load is one of the facts.
  await giveUpPrivileges().catch(() => {});
  const facts = await readHostFacts(options.runtimeDir, reachXenstore);
  const verdicts = judgeHost(facts, options.platform);
  printResult('doctor', options, { platform: options.platform, verdicts }, () => report(verdicts));
  if (verdicts.some((verdict) => verdict.status === 'fail')) process.exitCode = EXIT_CODE.error;
}

async function reachXenstore(): Promise<XenFacts['driverDomain']> {
  const xenstore = await openXenstore();
  try {
    const domid = await readOwnDomid(xenstore);
    return domid === 0 ? undefined : { domid, disks: await countDisks(xenstore, domid) };
  } finally {
    await xenstore.close();
  }
}

/** All that a toolstack has given this domain, of any kind. */
async function countDisks(xenstore: XenstoreClient, domid: number): Promise<number> {
  const list = async (folder: string) =>
    ((await xenstore.directory(folder)) ?? []).map((name) => `${folder}/${name}`);
  const below = async (folders: string[]) => (await Promise.all(folders.map(list))).flat();
  const kinds = await list(`${domainPath(domid)}/backend`);
  return (await below(await below(kinds))).length;
}

function report(verdicts: Verdict[]): string {
  const table = formatTable(
    [
      { title: '', value: (verdict) => verdict.status },
      { title: 'CHECK', value: (verdict) => verdict.check },
      { title: 'FOUND', value: (verdict) => verdict.found },
    ],
    verdicts,
  );
  const wrong = verdicts.filter((verdict) => verdict.status !== 'ok');
  const advice = wrong.map(
    ({ status, check, breaks, remedy }) =>
      `${status}: ${check}\n  breaks: ${breaks}\n  do:     ${printable(remedy ?? '')}`,
  );
  return [table, ...advice].join('\n\n');
}
