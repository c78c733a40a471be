// SPDX-License-Identifier: Apache-2.0
// What a host of XAPI's is like where ringdisk is its storage driver: read, and judged by
// xapi_findings.ts.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { missingForXapi } from './install.ts';
import { isProgramOurs, PLUGIN_ROOT, PLUGINS, SOCKET_LINK } from './layout.ts';
import { PYTHON } from './written_marks.ts';

/** Ours, and those of XAPI's that a disk of ours needs. */
export const XAPI_UNITS = [
  ...['ringdisk.service', 'ringdisk-manage.service', 'ringdisk-import.socket'],
  ...['message-switch.service', 'xapi-storage-script.service', 'xapi.service', 'xcp-rrdd.service'],
] as const;
export type XapiUnit = (typeof XAPI_UNITS)[number];

const ANSWER_MS = 10_000;
const INVENTORY = '/etc/xensource-inventory';
/** Where XAPI's proxy listens for a disk that leaves this host. */
const PROXY_FOLDER = '/run/nbdproxy/export';

export interface XapiHostFacts {
  /** Sentences; nothing: the plugins and drop-ins are there. */
  readonly missing: readonly string[];
  /** The plugins' programs are those of this version. */
  readonly isOurs: boolean;
  /** Where the plugins look for the manager; undefined: nowhere. */
  readonly socket?: string;
  /** "3.6"; undefined: there is none that runs. */
  readonly python?: string;
  /** systemd's words, "active" or "not-found"; missing: it cannot be asked. */
  readonly units?: Readonly<Record<string, string>>;
  /** "XCP-ng 8.3.0" */
  readonly product?: string;
  readonly hasProxyFolder: boolean;
}

export async function readXapiHost(destdir = ''): Promise<XapiHostFacts> {
  const root = path.join(destdir, PLUGIN_ROOT);
  const [python, units] = await Promise.all([readPython(), readUnits()]);
  return {
    missing: missingForXapi(destdir),
    isOurs: isProgramOurs(root),
    ...optional('socket', readSocketLink(root)),
    ...optional('python', python),
    ...optional('units', units),
    ...optional('product', readProduct(path.join(destdir, INVENTORY))),
    hasProxyFolder: existsSync(path.join(destdir, PROXY_FOLDER)),
  };
}

function readSocketLink(root: string): string | undefined {
  try {
    return readlinkSync(path.join(root, PLUGINS[0]?.folder ?? '', SOCKET_LINK));
  } catch {
    return undefined;
  }
}

async function readPython(): Promise<string | undefined> {
  const words = ['-IS', '-c', 'import sys; print("%d.%d" % sys.version_info[:2])'];
  return (await said(PYTHON, words))?.trim();
}

async function readUnits(): Promise<Record<string, string> | undefined> {
  const words = ['show', '--no-pager', '--property=Id,LoadState,ActiveState', ...XAPI_UNITS];
  const text = await said('systemctl', words);
  return text === undefined ? undefined : parseUnits(text);
}

/** Of `systemctl show`: a paragraph for each unit. */
export function parseUnits(text: string): Record<string, string> {
  const states = text.split(/\n\n+/).flatMap((paragraph) => {
    const value = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(paragraph)?.[1];
    const [id, load, active] = [value('Id'), value('LoadState'), value('ActiveState')];
    if (id === undefined || active === undefined) return [];
    return [[id, load === 'loaded' ? active : (load ?? active)]];
  });
  return Object.fromEntries(states);
}

/** Lines of NAME='VALUE'. */
function readProduct(file: string): string | undefined {
  try {
    const text = readFileSync(file, 'utf8');
    const value = (name: string) => new RegExp(`^${name}='([^']*)'$`, 'm').exec(text)?.[1];
    const [brand = value('PRODUCT_NAME'), version] = [
      value('PRODUCT_BRAND'),
      value('PRODUCT_VERSION'),
    ];
    return version === undefined ? undefined : `${brand ?? 'unknown'} ${version}`;
  } catch {
    return undefined;
  }
}

/** What a program prints; undefined where it cannot be run, fails, or says nothing for long. */
async function said(program: string, words: readonly string[]): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(program, words, { timeout: ANSWER_MS });
    return stdout;
  } catch {
    return undefined;
  }
}

function optional<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };
}
