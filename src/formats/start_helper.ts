// SPDX-License-Identifier: Apache-2.0
// Starts the process that will serve an image: through systemd, where its socket is there, in a
// unit of its own; elsewhere as a process with a session of its own, confined by what the daemon is
// confined by. Either way it gets one line and gives one back.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import * as v from 'valibot';
import { LineSplitter } from '../control/framing.ts';
import { DatapathError } from '../datapath/datapath.ts';
import { packageRoot } from '../package_root.ts';
import { isFileFormat } from './helper_command.ts';
import { type HelperRecord, imagesFolder } from './helper_record.ts';
import { GO_ON, type HelperRequest, helperAnswerSchema, LINE_BYTES_MAX } from './helper_request.ts';
import type { ImageFormat } from './image_spec.ts';

/** The hidden command; see src/cli/image_helper.ts. */
export const HELPER_COMMAND = 'image-helper';

/** Of ringdisk-image.socket, or of ringdisk-image-net.socket for what lies elsewhere. */
export function helperSocket(runtimeDir: string, format: ImageFormat): string {
  return path.join(runtimeDir, isFileFormat(format) ? 'images.sock' : 'images-net.sock');
}

/**
 * Takes as long as the image takes to be looked at. The process becomes the other program when
 * `found` resolves, and ends where that rejects. Throws DatapathError, and what `found` throws.
 */
export async function startHelper(request: HelperRequest, found: Found): Promise<void> {
  // In a unit of its own it sees this folder, and could not make it.
  mkdirSync(imagesFolder(request.runtimeDir), { recursive: true, mode: 0o700 });
  const socket = helperSocket(request.runtimeDir, request.format);
  const line = `${JSON.stringify(request)}\n`;
  if (existsSync(socket)) {
    try {
      return await askService(socket, line, found);
    } catch (error) {
      // The unit is stopped; its socket's file stays.
      if ((error as NodeJS.ErrnoException).code !== 'ECONNREFUSED') throw error;
    }
  }
  return askChild(line, found);
}

type Found = (record: HelperRecord) => Promise<void>;

async function askService(socket: string, line: string, found: Found): Promise<void> {
  const connection = connect(socket);
  try {
    await exchange(connection, connection, line, found);
  } finally {
    connection.destroy();
  }
}

async function askChild(line: string, found: Found): Promise<void> {
  const command = path.join(packageRoot, 'dist', 'ringdisk.cjs');
  const child = spawn(process.execPath, [command, HELPER_COMMAND], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { PATH: process.env['PATH'] },
  });
  // It goes on without us.
  child.unref();
  const failed = new Promise<never>((_, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      reject(new DatapathError(error.code ?? 'EIO', `cannot start a process: ${error.message}`));
    });
  });
  try {
    await Promise.race([exchange(child.stdout, child.stdin, line, found), failed]);
  } finally {
    child.stdin.destroy();
    child.stdout.destroy();
  }
}

function exchange(from: Readable, to: Writable, line: string, found: Found): Promise<void> {
  return new Promise((resolve, reject) => {
    const splitter = new LineSplitter(LINE_BYTES_MAX);
    from.on('error', reject);
    to.on('error', reject);
    from.on('data', (bytes: Buffer) => {
      try {
        for (const answer of splitter.push(bytes)) {
          found(readAnswer(answer)).then(() => to.write(GO_ON, () => resolve()), reject);
        }
      } catch (error) {
        reject(error);
      }
    });
    from.on('close', () => {
      reject(new DatapathError('EIO', 'the process that was to serve the image has ended'));
    });
    to.write(line);
  });
}

function readAnswer(line: string): HelperRecord {
  const answer = v.parse(helperAnswerSchema, JSON.parse(line));
  if ('helper' in answer) return answer.helper;
  throw new DatapathError(answer.error.code, answer.error.message);
}
