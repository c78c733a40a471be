// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Smart } from '../../../src/health/smart.ts';
import { isAsleep, parseSmart, smartProblems } from '../../../src/health/smart_report.ts';
import { wholeDisks } from '../../../src/health/whole_disks.ts';
import { createLogger } from '../../../src/log.ts';
import type { RunCommand } from '../../../src/zfs/command.ts';
import { ZfsError } from '../../../src/zfs/zfs_error.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const report = (more: object) =>
  JSON.stringify({ smartctl: { version: [7, 3], exit_status: 0 }, ...more });
const parse = (more: object) => parseSmart(report(more), '/dev/sdb', 100);

const ATA = {
  model_name: 'A Disk',
  serial_number: 'S1',
  smart_status: { passed: true },
  temperature: { current: 31 },
  power_on_time: { hours: 1000 },
  ata_smart_attributes: {
    table: [
      { id: 1, name: 'Raw_Read_Error_Rate', raw: { value: 90699117, string: '90699117' } },
      { id: 5, name: 'Reallocated_Sector_Ct', raw: { value: 3, string: '3' } },
      { id: 197, name: 'Current_Pending_Sector', raw: { value: 8, string: '8' } },
      { id: 198, name: 'Offline_Uncorrectable', raw: { value: 0, string: '0' } },
    ],
  },
};

describe('what smartctl says', () => {
  it('is read of ATA, NVMe and SCSI disks', () => {
    expect(parse(ATA)).toEqual({
      ...{ device: '/dev/sdb', model: 'A Disk', serial: 'S1', passed: true, checked: 100 },
      ...{ temperatureC: 31, hoursOn: 1000, reallocated: 3, pending: 8, uncorrectable: 0 },
    });
    const nvme = { critical_warning: 4, media_errors: 2, percentage_used: 95 };
    const told = parse({ smart_status: {}, nvme_smart_health_information_log: nvme });
    expect(told).toMatchObject({ criticalWarning: 4, mediaErrors: 2, percentUsed: 95 });
    const scsi = parse({ smart_status: { passed: true }, scsi_grown_defect_list: 7 });
    expect(scsi).toMatchObject({ passed: true, reallocated: 7 });
  });

  it('is a problem only where it is one', () => {
    expect(smartProblems(parse({ smart_status: { passed: true } }))).toEqual([]);
    expect(smartProblems(parse(ATA))).toEqual(['8 sectors are unsure']);
    expect(smartProblems(parse({ smart_status: { passed: false } }))[0]).toMatch(/failing/);
    const worn = { nvme_smart_health_information_log: { percentage_used: 90 } };
    expect(smartProblems(parse(worn))).toHaveLength(1);
  });

  it('is nothing where the disk tells nothing, which is no good news', () => {
    const messages = [{ string: '/dev/sdb: Unable to detect device type', severity: 'error' }];
    const told = parse({ smartctl: { messages, exit_status: 1 } });
    expect(told).toEqual({
      device: '/dev/sdb',
      reason: '/dev/sdb: Unable to detect device type',
    });
    const asleep = [{ string: 'Device is in STANDBY mode, exit(2)', severity: 'information' }];
    expect(isAsleep(parse({ smartctl: { messages: asleep } }))).toBe(true);
    expect(isAsleep(told)).toBe(false);
    expect(() => parseSmart('smartctl: not found', '/dev/sdb', 0)).toThrow(SyntaxError);
    expect(() => parseSmart('{}', '/dev/sdb', 0)).toThrow(SyntaxError);
  });
});

/** As sysfs is laid out: sda1 on sda, a mirror of two, a zvol. */
function sysfs(): string {
  const root = temporaryFolder();
  const folder = path.join(root, 'class');
  mkdirSync(folder);
  const add = (name: string, at: string) => {
    mkdirSync(path.join(root, 'devices', at), { recursive: true });
    symlinkSync(path.join(root, 'devices', at), path.join(folder, name));
  };
  for (const disk of ['null', 'full', 'zd0']) add(disk, disk);
  add('random', 'null/random');
  writeFileSync(path.join(root, 'devices/null/random/partition'), '1\n');
  add('zero', 'zero');
  for (const slave of ['random', 'full']) {
    mkdirSync(path.join(root, 'devices/zero/slaves', slave), { recursive: true });
  }
  return folder;
}

describe('the disks of a device', () => {
  it('are found below partitions and mirrors', async () => {
    const folder = sysfs();
    // Devices that are there everywhere, by names of disks that are not.
    expect(await wholeDisks('/dev/full', folder)).toEqual(['/dev/full']);
    expect(await wholeDisks('/dev/random', folder)).toEqual(['/dev/null']);
    expect(await wholeDisks('/dev/zero', folder)).toEqual(['/dev/full', '/dev/null']);
    expect(await wholeDisks('/dev/ringdisk-none', folder)).toEqual([]);
    expect(await wholeDisks('/etc/hostname', folder)).toEqual([]);
  });
});

describe('asking disks', () => {
  const lines: string[] = [];
  const destination = new Writable({
    write: (line, _, done) => {
      lines.push(String(line));
      done();
    },
  });
  const log = createLogger({ level: 'info', destination });
  const disksOf = async (device: string) => [device];
  const looked = async (run: RunCommand, devices: string[]) => {
    lines.length = 0;
    const smart = new Smart(run, log, disksOf);
    await smart.look(devices);
    await smart.look(devices);
    return smart;
  };

  it('says once that smartctl is missing, and what that means', async () => {
    const run: RunCommand = (program, args) =>
      Promise.reject(new ZfsError('missing', program, args, 'smartctl is not installed'));
    const smart = await looked(run, ['/dev/sda', '/dev/sdb']);
    expect(lines.filter((line) => /smartctl is not installed/.test(line))).toHaveLength(1);
    expect(smart.of('/dev/sda')).toMatchObject([{ reason: /not installed/ }]);
  });

  it('keeps what it knows of one that hangs, and asks no more where several do', async () => {
    const asked: string[] = [];
    let turn = 0;
    const run: RunCommand = async (program, args) => {
      const disk = args.at(-1) ?? '';
      asked.push(disk);
      if (turn === 0) return report(ATA);
      throw new ZfsError('timeout', program, args, 'no end within 20 s');
    };
    const smart = new Smart(run, log, disksOf);
    const devices = ['a', 'b', 'c', 'd', 'e', 'f'].map((letter) => `/dev/sd${letter}`);
    await smart.look(devices);
    turn = 1;
    asked.length = 0;
    await smart.look(devices);
    expect(asked).toHaveLength(4);
    expect(smart.of('/dev/sda')).toMatchObject([{ pending: 8, reason: /no end within/ }]);
    expect(smart.of('/dev/sdf')).toMatchObject([{ pending: 8, reason: /do not answer/ }]);
    await smart.look(['/dev/sda']);
    expect(smart.of('/dev/sdf')).toEqual([]);
  });
});
