// SPDX-License-Identifier: Apache-2.0
// What `ringdisk doctor` looks at where XAPI's storage daemon is, and what it makes of it.
import { hasXapi, missingForXapi } from '../smapi/install.ts';
import { smapiSocketPath } from '../smapi/smapi_socket.ts';
import { isAbandoned } from '../unix_socket.ts';
import { MANAGE_DIR } from '../volume/manage_protocol.ts';
import type { Verdict } from './host_verdicts.ts';

export interface XapiFacts {
  /** Sentences; nothing: the plugins and drop-ins are there. */
  missing: readonly string[];
  managerListens: boolean;
}

/** undefined: there is no XAPI here. */
export async function readXapiFacts(): Promise<XapiFacts | undefined> {
  if (!hasXapi()) return undefined;
  const managerListens = !(await isAbandoned(smapiSocketPath(MANAGE_DIR)));
  return { missing: missingForXapi(), managerListens };
}

/** `backends`: the kinds of disks that the daemon serves; undefined: none runs. */
export function judgeXapi(
  { missing, managerListens }: XapiFacts,
  backends: readonly string[] | undefined,
): Verdict[] {
  return [pluginVerdict(missing), managerVerdict(managerListens), ...kindVerdict(backends)];
}

function pluginVerdict(missing: readonly string[]): Verdict {
  const check = 'XAPI plugins';
  if (missing.length === 0) return { check, status: 'ok', found: 'both' };
  return {
    check,
    status: 'warn',
    found: missing.join('; '),
    breaks: 'XAPI knows no SR of type ringdisk, or cannot use it',
    remedy: 'run ringdisk xapi install, then xe-toolstack-restart',
  };
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
