// SPDX-License-Identifier: Apache-2.0
// `ringdisk serve --platform loopback` as a process of its own, and the CLI against it. Runs what
// the build made, so `npm run build` comes first.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { temporaryFolder } from './temporary_folder.ts';

const SERVE = ['serve', '--platform', 'loopback'];
export const MAIN = fileURLToPath(new URL('../../dist/ringdisk.cjs', import.meta.url));

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface Started {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

/** Starts `ringdisk ARGS`; its output is collected. */
export function start(
  args: string[],
  extraEnv: NodeJS.ProcessEnv = {},
  user: { uid?: number; gid?: number } = {},
): Started {
  const env = { ...process.env, NO_COLOR: '1', ...extraEnv };
  return follow(
    spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
      ...user,
    }),
  );
}

/** Collects the output of a process that has been started. */
export function follow(child: ChildProcess): Started {
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ended = once(child, 'close').then(([status, signal]) => ({
    status,
    signal,
    stdout,
    stderr,
  }));
  return { child, ended };
}

/** Starts a daemon on the loopback machine. */
export function startServe(runtimeDir: string, ...args: string[]): Started {
  return start([...SERVE, '--runtime-dir', runtimeDir, ...args]);
}

/** Runs `ringdisk ARGS` to its end. */
export function ringdisk(...args: string[]): Promise<Ended> {
  return start(args).ended;
}

export class ServeProcess {
  readonly runtimeDir: string;
  readonly started: Started;

  /** Resolves when it serves; rejects with its log when it ends before. */
  static async start(...args: string[]): Promise<ServeProcess> {
    return ServeProcess.startIn(temporaryFolder(), ...args);
  }

  static async startIn(runtimeDir: string, ...args: string[]): Promise<ServeProcess> {
    const started = startServe(runtimeDir, ...args);
    await untilServing(started);
    return new ServeProcess(runtimeDir, started);
  }

  constructor(runtimeDir: string, started: Started) {
    this.runtimeDir = runtimeDir;
    this.started = started;
  }

  /** `ringdisk COMMAND... --runtime-dir DIR` */
  cli(...args: string[]): Promise<Ended> {
    return ringdisk(...args, '--runtime-dir', this.runtimeDir);
  }

  file(name: string): string {
    return path.join(this.runtimeDir, name);
  }

  /** Sends `signal` and waits for the end. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.started.child.kill(signal);
    const ended = await this.started.ended;
    return ended;
  }

  remove(): void {
    rmSync(this.runtimeDir, { recursive: true, force: true });
  }
}

/** Rejects with its log when it ends before. */
export async function untilServing({ child, ended }: Started): Promise<void> {
  const lines = createInterface({ input: child.stderr as NodeJS.ReadableStream });
  const serving = new Promise<void>((resolve) => {
    lines.on('line', (line) => {
      if (line.includes('"msg":"serving"')) resolve();
    });
  });
  const died = ended.then(({ stderr }) => {
    throw new Error(`ringdisk serve ended:\n${stderr}`);
  });
  died.catch(() => {});
  await Promise.race([serving, died]);
  lines.close();
  // readline pauses what it has read from.
  child.stderr?.resume();
}
