// SPDX-License-Identifier: Apache-2.0
// What a host of XAPI's lacks for ringdisk to be its storage driver, what breaks without it, and
// what to do: for `ringdisk doctor` and for the plugin's diagnostics. Pure.
import type { XapiHostFacts, XapiUnit } from './xapi_host.ts';

/** As `ringdisk doctor` prints it. */
export interface Finding {
  check: string;
  status: 'ok' | 'warn' | 'fail';
  found: string;
  breaks?: string;
  remedy?: string;
}

/** Of the processes that run; undefined: one does not, or cannot be asked. */
export interface RunningVersions {
  readonly daemon?: string | undefined;
  readonly manager?: string | undefined;
}

const PYTHON_MIN = [3, 6] as const;
/** The first whose XAPI has all that is asked of it here. */
const PRODUCT_MIN = [8, 3] as const;
const INSTALL = 'run ringdisk xapi install, then xe-toolstack-restart';

/** `socket`: where the manager listens; `version`: of what looks. */
export function judgeXapiHost(
  facts: XapiHostFacts,
  running: RunningVersions,
  socket: string,
  version: string,
): Finding[] {
  return [
    pluginFinding(facts),
    ...buildFindings(facts, socket),
    pythonFinding(facts.python),
    ...unitFindings(facts.units),
    ...versionFindings(running, version),
    ...productFindings(facts.product),
    ...placeFindings(facts),
  ];
}

function pluginFinding({ missing }: XapiHostFacts): Finding {
  const check = 'XAPI plugins';
  if (missing.length === 0) return { check, status: 'ok', found: 'both' };
  return {
    check,
    status: 'warn',
    found: missing.join('; '),
    breaks: 'XAPI knows no SR of type ringdisk, or cannot use it',
    remedy: INSTALL,
  };
}

/** Of plugins that are there at all. */
function buildFindings({ missing, isOurs, socket }: XapiHostFacts, expected: string): Finding[] {
  if (missing.length > 0) return [];
  if (!isOurs) {
    return [
      {
        check: 'XAPI plugins, version',
        status: 'warn',
        found: 'their programs are those of another version of ringdisk',
        breaks: 'what this version has learned since, such as new methods',
        remedy: INSTALL,
      },
    ];
  }
  if (socket === expected) return [];
  return [
    {
      check: 'XAPI plugins, socket',
      status: 'fail',
      found: `they look for the manager at ${socket ?? 'no place'}, not at ${expected}`,
      breaks: 'what XAPI asks of its SRs of type ringdisk waits for half a minute and fails',
      remedy: INSTALL,
    },
  ];
}

function pythonFinding(python: string | undefined): Finding {
  const check = 'Python for the plugins';
  if (python !== undefined && isAtLeast(python, PYTHON_MIN)) {
    return { check, status: 'ok', found: python };
  }
  return {
    check,
    status: 'fail',
    found: python === undefined ? '/usr/bin/python3 does not run' : python,
    breaks: 'XAPI can ask nothing of its SRs of type ringdisk',
    remedy: `install Python ${PYTHON_MIN.join('.')} or newer as /usr/bin/python3`,
  };
}

const STORAGE_SCRIPT = 'XAPI cannot ask for anything of its SRs of type ringdisk';
const UNIT_USE: Readonly<Record<XapiUnit, Pick<Finding, 'status' | 'breaks'>>> = {
  'ringdisk.service': { status: 'fail', breaks: 'no guest has its disks' },
  'ringdisk-manage.service': {
    status: 'fail',
    breaks: 'what XAPI asks of its SRs of type ringdisk waits for half a minute and fails',
  },
  'ringdisk-import.socket': {
    status: 'warn',
    breaks: 'a restart of the manager ends disks that are just coming from other hosts',
  },
  'message-switch.service': { status: 'fail', breaks: STORAGE_SCRIPT },
  'xapi-storage-script.service': { status: 'fail', breaks: STORAGE_SCRIPT },
  'xapi.service': { status: 'fail', breaks: 'nobody asks for anything' },
  'xcp-rrdd.service': { status: 'warn', breaks: 'XAPI has no metrics, of anything' },
};

function unitFindings(units: Readonly<Record<string, string>> | undefined): Finding[] {
  if (!units) return [];
  const names = Object.keys(UNIT_USE) as XapiUnit[];
  const wrong = names.filter((name) => units[name] !== 'active');
  if (wrong.length === 0) {
    return [{ check: 'units of XAPI and ringdisk', status: 'ok', found: 'all are active' }];
  }
  return wrong.map((name) => {
    const found = units[name] ?? 'not known';
    const isThere = found !== 'not-found' && found !== 'not known';
    const remedy = isThere
      ? `systemctl start ${name}, and see journalctl -u ${name}`
      : name.startsWith('ringdisk')
        ? INSTALL
        : 'install XAPI whole: it brings this unit';
    return { check: name, ...UNIT_USE[name], found, remedy };
  });
}

function versionFindings({ daemon, manager }: RunningVersions, version: string): Finding[] {
  const all = [
    { check: 'daemon, version', runs: daemon, remedy: 'run ringdisk upgrade' },
    {
      check: 'volume manager, version',
      runs: manager,
      remedy: 'systemctl restart ringdisk-manage: guests do not notice',
    },
  ];
  return all.flatMap(({ check, runs, remedy }): Finding[] =>
    runs === undefined || runs === version
      ? []
      : [
          {
            ...{ check, status: 'warn', remedy },
            found: `${runs} runs, and this is ${version}`,
            breaks: 'the two may not understand each other in all they do',
          },
        ],
  );
}

function productFindings(product: string | undefined): Finding[] {
  const [, number = ''] = /([0-9]+\.[0-9]+)/.exec(product ?? '') ?? [];
  if (product === undefined || number === '' || isAtLeast(number, PRODUCT_MIN)) return [];
  return [
    {
      check: "XAPI's version",
      status: 'warn',
      found: product,
      breaks: 'changed blocks, migration of disks, and what else its XAPI does not ask for yet',
      remedy: `upgrade the host: ${PRODUCT_MIN.join('.')} has them`,
    },
  ];
}

function placeFindings({ hasProxyFolder }: XapiHostFacts): Finding[] {
  if (hasProxyFolder) return [];
  return [
    {
      check: 'proxy of migrations',
      status: 'warn',
      found: 'there is no /run/nbdproxy/export',
      breaks: 'disks cannot leave this host while their guests run',
      remedy: 'systemd-tmpfiles --create && systemctl restart ringdisk',
    },
  ];
}

function isAtLeast(text: string, [major, minor]: readonly [number, number]): boolean {
  const [first = 0, second = 0] = text.split('.').map(Number);
  return first > major || (first === major && second >= minor);
}
