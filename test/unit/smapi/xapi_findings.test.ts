// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from 'vitest';
import { judgeXapiHost } from '../../../src/smapi/xapi_findings.ts';
import { parseUnits, XAPI_UNITS, type XapiHostFacts } from '../../../src/smapi/xapi_host.ts';

const SOCKET = '/run/ringdisk-manage/smapi.sock';
const GOOD: XapiHostFacts = {
  missing: [],
  isOurs: true,
  socket: SOCKET,
  python: '3.6',
  units: Object.fromEntries(XAPI_UNITS.map((name) => [name, 'active'])),
  product: 'XCP-ng 8.3.0',
  hasProxyFolder: true,
};

function wrong(facts: Partial<XapiHostFacts>, running = {}) {
  const findings = judgeXapiHost({ ...GOOD, ...facts }, running, SOCKET, '0.1.0');
  const found = findings.filter(({ status }) => status !== 'ok');
  // What breaks, and what to do, is said of each.
  for (const { breaks, remedy } of found) expect([breaks, remedy]).not.toContain(undefined);
  return found.map(({ status, check, found: what }) => `${status} ${check}: ${what}`);
}

const unit = (name: string, state: string) => ({ units: { ...GOOD.units, [name]: state } });

describe('on XAPI’s side', () => {
  test('nothing is wrong with a good host, nor where systemd cannot be asked', () => {
    expect(wrong({})).toEqual([]);
    const { units: _, ...without } = GOOD;
    expect(judgeXapiHost(without, {}, SOCKET, '0.1.0').map(({ status }) => status)).toEqual([
      'ok',
      'ok',
    ]);
  });

  test.each([
    [{ missing: ['there is no x'] }, ['warn XAPI plugins: there is no x']],
    [{ isOurs: false }, [expect.stringMatching(/^warn XAPI plugins, version: .*another version/)]],
    [
      { socket: '/run/other/smapi.sock' },
      [expect.stringMatching(/^fail XAPI plugins, socket: .*at \/run\/other\/smapi.sock, not at/)],
    ],
    [{ python: '2.7' }, ['fail Python for the plugins: 2.7']],
    [{ python: '3.5' }, ['fail Python for the plugins: 3.5']],
    [{ python: '3.13' }, []],
    [{ product: 'XCP-ng 8.2.1' }, ["warn XAPI's version: XCP-ng 8.2.1"]],
    [{ product: 'XenServer 8.4.0' }, []],
    [{ product: 'something else' }, []],
    [{ hasProxyFolder: false }, ['warn proxy of migrations: there is no /run/nbdproxy/export']],
    [unit('ringdisk-manage.service', 'failed'), ['fail ringdisk-manage.service: failed']],
    [unit('ringdisk-import.socket', 'inactive'), ['warn ringdisk-import.socket: inactive']],
    [unit('xapi-storage-script.service', 'failed'), ['fail xapi-storage-script.service: failed']],
    [unit('xcp-rrdd.service', 'not-found'), ['warn xcp-rrdd.service: not-found']],
  ])('%j', (facts, expected) => {
    expect(wrong(facts)).toEqual(expected);
  });

  test('no Python is one', () => {
    const { python: _, ...without } = GOOD;
    const [, second] = judgeXapiHost(without, {}, SOCKET, '0.1.0');
    expect(second).toMatchObject({ status: 'fail', found: '/usr/bin/python3 does not run' });
  });

  test('a process of another version is told', () => {
    expect(wrong({}, { daemon: '0.1.0', manager: '0.1.0' })).toEqual([]);
    expect(wrong({}, { daemon: '0.0.9' })).toEqual([
      'warn daemon, version: 0.0.9 runs, and this is 0.1.0',
    ]);
  });
});

test('units are read as systemd tells of them', () => {
  const text =
    'Id=a.service\nLoadState=loaded\nActiveState=active\n\n' +
    'Id=b.service\nActiveState=inactive\nLoadState=not-found\n\n' +
    'Id=c.socket\nLoadState=loaded\nActiveState=failed\n';
  expect(parseUnits(text)).toEqual({
    'a.service': 'active',
    'b.service': 'not-found',
    'c.socket': 'failed',
  });
});
