// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` looks at where XAPI's storage daemon is, and what it makes of it.
import { MethodClient } from '../control/client.ts';
import { hasXapi } from '../smapi/install.ts';
import { smapiSocketPath } from '../smapi/smapi_socket.ts';
import { judgeXapiHost } from '../smapi/xapi_findings.ts';
import { readXapiHost, type XapiHostFacts } from '../smapi/xapi_host.ts';
import { isAbandoned } from '../unix_socket.ts';
import { packageVersion } from '../version.ts';
import {
  MANAGE_DIR,
  MANAGE_METHODS,
  MANAGER_WORDS,
  manageSocketPath,
} from '../volume/manage_protocol.ts';
import type { Verdict } from './host_verdicts.ts';

const ANSWER_MS = 5000;

export interface XapiFacts {
  readonly host: XapiHostFacts;
  readonly managerListens: boolean;
  /** Of the one that runs; undefined: it does not answer. */
  readonly managerVersion?: string;
}

/** undefined: there is no XAPI here. */
export async function readXapiFacts(): Promise<XapiFacts | undefined> {
  if (!hasXapi()) return undefined;
  const managerListens = !(await isAbandoned(smapiSocketPath(MANAGE_DIR)));
  const managerVersion = await askManager();
  const host = await readXapiHost();
  return { host, managerListens, ...(managerVersion !== undefined && { managerVersion }) };
}

async function askManager(): Promise<string | undefined> {
  const socket = manageSocketPath(MANAGE_DIR);
  try {
    const client = await MethodClient.open(socket, MANAGE_METHODS, MANAGER_WORDS, ANSWER_MS);
    try {
      return (await client.call('version', {})).ringdisk;
    } finally {
      client.close();
    }
  } catch {
    return undefined;
  }
}

/** `backends`: the kinds of disks that the daemon serves; undefined: none runs. */
export function judgeXapi(
  { host, managerListens, managerVersion }: XapiFacts,
  backends: readonly string[] | undefined,
  daemonVersion?: string,
): Verdict[] {
  const running = { daemon: daemonVersion, manager: managerVersion };
  const socket = smapiSocketPath(MANAGE_DIR);
  return [
    ...judgeXapiHost(host, running, socket, packageVersion()),
    managerVerdict(managerListens),
    ...kindVerdict(backends),
  ];
}

function managerVerdict(listens: boolean): Verdict {
  const check = 'volume manager';
  if (listens) return { check, status: 'ok', found: 'listens' };
  return {
    check,
    status: 'fail',
    found: `nobody listens on ${smapiSocketPath(MANAGE_DIR)}`,
    breaks: 'what XAPI asks of its SRs of type ringdisk waits for half a minute and fails',
    remedy: 'systemctl start ringdisk-manage, and see its log',
  };
}

function kindVerdict(backends: readonly string[] | undefined): Verdict[] {
  if (backends === undefined || backends.includes('qdisk')) return [];
  return [
    {
      check: 'kind qdisk',
      status: 'fail',
      found: `the daemon serves ${backends.join(', ')}`,
      breaks: 'guests of XAPI start and find no disk',
      remedy: 'start it with --backend qdisk, as the drop-in of ringdisk xapi install does',
    },
  ];
}
