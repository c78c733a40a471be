// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest';
import { oncePerCommand, runCommand } from '../../../src/zfs/command.ts';
import { ZfsError, type ZfsErrorKind } from '../../../src/zfs/zfs_error.ts';

const kindOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'none',
    (error) => (error instanceof ZfsError ? error.kind : String(error)),
  );

describe('a command', () => {
  it('gets its arguments as they are, its input, and no locale', async () => {
    const out = await runCommand('printf', ['%s|%s', '$(id); *', '\t']);
    expect(out).toBe('$(id); *|\t');
    expect(await runCommand('cat', [], { input: Buffer.from('key\n') })).toBe('key\n');
    expect(await runCommand('env', [])).toMatch(/^LC_ALL=C\nPATH=[^\n]*\n$/);
  });

  it('that is missing, late or says too much fails as such', async () => {
    expect(await kindOf(runCommand('ringdisk-no-such-program', []))).toBe('missing');
    const started = performance.now();
    expect(await kindOf(runCommand('sleep', ['30'], { timeoutMs: 50 }))).toBe('timeout');
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(await kindOf(runCommand('yes', ['a'.repeat(1000)]))).toBe('other');
  }, 120_000);

  it('whose reader is gone before all was written says why itself', async () => {
    const input = Buffer.alloc(1024 ** 2);
    await expect(runCommand('sh', ['-c', 'echo no >&2; exit 3'], { input })).rejects.toThrow(/no$/);
  });

  it('may say on standard output why it fails, or fail and answer all the same', async () => {
    await expect(runCommand('sh', ['-c', 'echo why; exit 4'])).rejects.toThrow(/why$/);
    expect(await runCommand('sh', ['-c', 'echo so; exit 4'], { anyStatus: true })).toBe('so\n');
    const killed = runCommand('sh', ['-c', 'kill -9 $$'], { anyStatus: true });
    await expect(killed).rejects.toThrow(/SIGKILL/);
  });

  it('that hangs is not started once more by those who ask again and again', async () => {
    const once = oncePerCommand(runCommand);
    const words = ['-c', 'trap "" TERM; echo $$; sleep 1'];
    const first = once('sh', words);
    expect(await once('sh', words)).toBe(await first);
    const late = once('sleep', ['1']);
    expect(await once('sleep', ['0'])).toBe('');
    await late;
    expect(await once('sleep', ['0.9999'])).toBe('');
    expect(await once('sleep', ['1'])).toBe('');
  });

  it.each<[string, ZfsErrorKind]>([
    ["cannot open 'tank/x': dataset does not exist", 'unknown'],
    ["cannot open 'tank': no such pool", 'unknown'],
    ["cannot create 'tank/x': dataset already exists", 'exists'],
    ["cannot create 'tank': pool already exists", 'exists'],
    ["cannot create bookmark 'tank/x#1': bookmark exists", 'exists'],
    ["cannot destroy 'tank/x': dataset is busy", 'busy'],
    ["cannot export 'tank': pool is busy", 'busy'],
    ["cannot create 'tank/x': out of space", 'full'],
    ["cannot set property for 'tank/x': size is greater than available space", 'full'],
    ['The ZFS modules are not loaded.\nTry running "modprobe zfs" as root', 'missing'],
    ["cannot snapshot 'tank/x@a': pool I/O is currently suspended", 'suspended'],
    ['/dev/sdb is in use and contains a ext4 filesystem.', 'in use'],
    ['zfs: invalid option', 'unsupported'],
    ["cannot create 'tank/ringdisk/x': parent does not exist", 'unknown'],
    [
      "invalid vdev specification\nuse '-f' to override the following errors:\n" +
        "/dev/sdb1 is part of exported pool 'old'",
      'labelled',
    ],
    [
      "invalid vdev specification\nuse '-f' to override the following errors:\n" +
        'mismatched replication level: both raidz and mirror vdevs are present',
      'layout',
    ],
    ["invalid vdev specification\n/dev/sdb1 is part of active pool 'tank'", 'in use'],
    ["cannot destroy 'tank/x@a': snapshot has dependent clones", 'clones'],
    ["cannot rollback to 'tank/x@a': more recent snapshots or bookmarks exist", 'snapshots'],
    ['cannot send: incremental source must be in same filesystem', 'unsupported'],
    ["cannot import 'x': no such pool available", 'unknown'],
    ["The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root", 'missing'],
    ["Key load error: Incorrect key provided for 'tank/x'.", 'key'],
    ["cannot set property for 'tank/x': 'compression' must be one of 'on | off | lz4'", 'property'],
    ['internal error: Input/output error', 'other'],
  ])('says %j', (words, kind) => {
    expect(ZfsError.of('zfs', ['list'], words).kind).toBe(kind);
  });
});
