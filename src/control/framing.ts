// SPDX-License-Identifier: Apache-2.0
// Newline-delimited JSON over a byte stream, with a bound on the length of a line.

/** Of a request's line: a server takes no longer one. */
export const REQUEST_BYTES_MAX = 64 * 1024;

/** Splits a stream into lines; throws RangeError once a line is longer than `bytesMax`. */
export class LineSplitter {
  readonly #bytesMax: number;
  #parts: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The lines that `chunk` completes, without their newlines. */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      this.#keep(chunk.subarray(start, end));
      lines.push(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#bytes = 0;
      start = end + 1;
    }
    this.#keep(chunk.subarray(start));
    return lines;
  }

  #keep(part: Buffer): void {
    if (part.length === 0) return;
    this.#bytes += part.length;
    if (this.#bytes > this.#bytesMax) {
      throw new RangeError(`a message is longer than ${this.#bytesMax} bytes`);
    }
    this.#parts.push(part);
  }
}
