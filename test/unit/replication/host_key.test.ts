// SPDX-License-Identifier: Apache-2.0
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { HostKey } from '../../../src/replication/host_key.ts';
import type { Job } from '../../../src/replication/job.ts';
import { temporaryFolder } from '../../support/temporary_folder.ts';

const job: Job = {
  ...{ pool: 'tank', name: 'nightly', keep: { last: 3 }, keepThere: {}, added: 1 },
  to: { pool: 'backup', via: ['ssh', 'other', 'ringdisk'] },
};

describe('the seal of a job', () => {
  it('is known by the host that made it, after its restart and when the pool is renamed', () => {
    const folder = path.join(temporaryFolder(), 'state');
    const sealed = HostKey.open(folder).sealed(job);
    const again = HostKey.open(folder);
    expect(again.isSealed(sealed)).toBe(true);
    expect(again.isSealed({ ...sealed, pool: 'other' })).toBe(true);
    expect(statSync(path.join(folder, 'host_key')).mode & 0o777).toBe(0o600);
  });

  it('is no other host’s, and none of a job that is another one', () => {
    const key = new HostKey();
    const sealed = key.sealed(job);
    expect(new HostKey().isSealed(sealed)).toBe(false);
    expect(key.isSealed(job)).toBe(false);
    expect(key.isSealed({ ...sealed, name: 'hourly' })).toBe(false);
    expect(key.isSealed({ ...sealed, to: { pool: 'backup', via: ['reboot'] } })).toBe(false);
    expect(key.isSealed({ ...sealed, seal: 'zz' })).toBe(false);
  });

  it('is made anew where the key is damaged', () => {
    const folder = temporaryFolder();
    writeFileSync(path.join(folder, 'host_key'), 'short\n');
    const sealed = HostKey.open(folder).sealed(job);
    expect(HostKey.open(folder).isSealed(sealed)).toBe(true);
  });
});
