// SPDX-License-Identifier: Apache-2.0
// The records of `zfs send` (OpenZFS, include/sys/zfs_ioctl.h), as far as they tell which bytes of
// a zvol have changed. Data is skipped. Pure: it is fed what comes, piece by piece.

const RECORD_BYTES = 312;
const BEGIN_MAGIC = 0x2f5bacbacn;
/** A zvol's data is its object 1; 2 holds its properties. */
const DATA_OBJECT = 1n;
const ALL = 0xffffffffffffffffn;

const TYPE = {
  begin: 0,
  object: 1,
  freeObjects: 2,
  write: 3,
  free: 4,
  end: 5,
  writeByRef: 6,
  spill: 7,
  writeEmbedded: 8,
  objectRange: 9,
  redact: 10,
} as const;

export type OnChange = (offset: number, length: number) => void;

export class SendStream {
  readonly #onChange: OnChange;
  #head = Buffer.alloc(0);
  /** Bytes of data that are still to come. */
  #skip = 0;
  #begun = false;
  ended = false;

  constructor(onChange: OnChange) {
    this.#onChange = onChange;
  }

  /** Throws SyntaxError where it is no stream that we can read. */
  push(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      const skipped = Math.min(this.#skip, rest.length);
      this.#skip -= skipped;
      rest = rest.subarray(skipped);
      const missing = RECORD_BYTES - this.#head.length;
      this.#head = Buffer.concat([this.#head, rest.subarray(0, missing)]);
      rest = rest.subarray(missing);
      if (this.#head.length === RECORD_BYTES) {
        this.#skip = this.#take(this.#head);
        this.#head = Buffer.alloc(0);
      }
    }
  }

  /** How many bytes of data follow. */
  #take(record: Buffer): number {
    const type = record.readUInt32LE(0);
    if (!this.#begun && (type !== TYPE.begin || record.readBigUInt64LE(8) !== BEGIN_MAGIC)) {
      throw new SyntaxError('this is no stream of zfs send, or one of another kind of machine');
    }
    switch (type) {
      case TYPE.begin:
        this.#begun = true;
        return record.readUInt32LE(4);
      case TYPE.object: {
        const raw = record.readUInt32LE(36);
        return raw !== 0 ? raw : roundUp(record.readUInt32LE(28));
      }
      case TYPE.write:
        return this.#takeWrite(record);
      case TYPE.free:
        this.#takeFree(record);
        return 0;
      case TYPE.writeByRef:
        this.#change(record, record.readBigUInt64LE(16), record.readBigUInt64LE(24));
        return 0;
      case TYPE.spill:
        return size(record, record.readUInt8(33) !== 0 ? 40 : 16);
      case TYPE.writeEmbedded:
        this.#change(record, record.readBigUInt64LE(16), record.readBigUInt64LE(24));
        return roundUp(record.readUInt32LE(52));
      case TYPE.end:
        this.ended = true;
        return 0;
      case TYPE.freeObjects:
      case TYPE.objectRange:
        return 0;
      default:
        throw new SyntaxError(`the stream of zfs send has a record of type ${type}`);
    }
  }

  #takeWrite(record: Buffer): number {
    this.#change(record, record.readBigUInt64LE(24), record.readBigUInt64LE(32));
    return size(record, record.readUInt8(50) !== 0 ? 96 : 32);
  }

  /**
   * With each object goes what lies behind its last block, to the end of all things. A zvol has had
   * nothing there: that block never comes nearer, whatever is discarded.
   */
  #takeFree(record: Buffer): void {
    const length = record.readBigUInt64LE(24);
    if (length !== ALL) this.#change(record, record.readBigUInt64LE(16), length);
  }

  #change(record: Buffer, offset: bigint, length: bigint): void {
    if (record.readBigUInt64LE(8) !== DATA_OBJECT) return;
    this.#onChange(Number(offset), Number(length));
  }
}

function size(record: Buffer, at: number): number {
  const bytes = record.readBigUInt64LE(at);
  if (bytes > 1n << 32n) throw new SyntaxError('the stream of zfs send has a block of 4 GiB');
  return Number(bytes);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}
