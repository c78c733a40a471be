// SPDX-License-Identifier: Apache-2.0
// What NBD speaks in plain text, before TLS begins: both ends of it. The client's two flags are all
// that counts afterwards: both sides forget options that came before TLS, so that nobody on the way
// can put in any.
import type { Duplex } from 'node:stream';
import { readExactly } from './streams.ts';

const MAGIC = 0x4e42444d41474943n; // NBDMAGIC
const OPTION_MAGIC = 0x49484156454f5054n; // IHAVEOPT
const REPLY_MAGIC = 0x0003e889045565a9n;
const FIXED_NEWSTYLE = 1;
const NO_ZEROES = 2;
const FLAGS = FIXED_NEWSTYLE | NO_ZEROES;
const OPTION = { exportName: 1, abort: 2, starttls: 5 };
const REPLY = { ack: 1, unsupported: 0x80000001, invalid: 0x80000003, tlsRequired: 0x80000005 };

const GREETING_BYTES = 18;
const OPTION_BYTES = 16;
const REPLY_BYTES = 20;
/** Of those that a client says in plain text; it is told that none counts. */
const OPTIONS_MAX = 16;
const OPTION_DATA_MAX = 8192;

/** As a server; the client's flags. */
export async function greet(client: Duplex): Promise<number> {
  const greeting = Buffer.alloc(GREETING_BYTES);
  greeting.writeBigUInt64BE(MAGIC, 0);
  greeting.writeBigUInt64BE(OPTION_MAGIC, 8);
  greeting.writeUInt16BE(FLAGS, 16);
  client.write(greeting);
  const flags = (await readExactly(client, 4)).readUInt32BE();
  if ((flags & ~FLAGS) !== 0 || (flags & FIXED_NEWSTYLE) === 0) {
    throw new Error(`it is no client of NBD's fixed newstyle (flags ${flags})`);
  }
  return flags;
}

/** As a server that insists on TLS; the client's flags. It is the client's turn then. */
export async function offerTls(client: Duplex): Promise<number> {
  const flags = await greet(client);
  for (let count = 0; count < OPTIONS_MAX; count++) {
    const { option, length } = await readOption(client);
    if (option === OPTION.starttls && length === 0) {
      refuseMore(client);
      client.write(reply(option, REPLY.ack));
      return flags;
    }
    if (option === OPTION.abort) {
      client.end(reply(option, REPLY.ack));
      throw new Error('it gave up');
    }
    // There is no answer to this one but the end.
    if (option === OPTION.exportName) throw new Error('it asked for an export without TLS');
    client.write(reply(option, option === OPTION.starttls ? REPLY.invalid : REPLY.tlsRequired));
  }
  throw new Error(`it sent ${OPTIONS_MAX} options without TLS`);
}

/** As a client, to a server that greets. */
export async function answerGreeting(server: Duplex, flags: number): Promise<void> {
  const greeting = await readExactly(server, GREETING_BYTES);
  const isNbd =
    greeting.readBigUInt64BE(0) === MAGIC && greeting.readBigUInt64BE(8) === OPTION_MAGIC;
  if (!isNbd) throw new Error('it is no NBD server of a kind that has options');
  // Whoever stands before the server has promised both.
  if ((greeting.readUInt16BE(16) & FLAGS) !== FLAGS) throw new Error('it is too old an NBD server');
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(flags);
  server.write(answer);
}

/** As a client that insists on TLS. Its own turn then. */
export async function requestTls(server: Duplex, flags: number): Promise<void> {
  await answerGreeting(server, flags);
  const option = Buffer.alloc(OPTION_BYTES);
  option.writeBigUInt64BE(OPTION_MAGIC, 0);
  option.writeUInt32BE(OPTION.starttls, 8);
  server.write(option);
  const answer = await readExactly(server, REPLY_BYTES);
  const isReply =
    answer.readBigUInt64BE(0) === REPLY_MAGIC && answer.readUInt32BE(8) === OPTION.starttls;
  if (!isReply) throw new Error('its answer makes no sense');
  const type = answer.readUInt32BE(12);
  if (type === REPLY.unsupported) throw new Error('it has no TLS');
  if (type !== REPLY.ack || answer.readUInt32BE(16) !== 0) {
    throw new Error(`it refuses TLS (0x${type.toString(16)})`);
  }
  refuseMore(server);
}

async function readOption(client: Duplex): Promise<{ option: number; length: number }> {
  const header = await readExactly(client, OPTION_BYTES);
  if (header.readBigUInt64BE(0) !== OPTION_MAGIC) throw new Error('it sent no option');
  const option = header.readUInt32BE(8);
  const length = header.readUInt32BE(12);
  if (length > OPTION_DATA_MAX) throw new Error(`it sent an option of ${length} bytes without TLS`);
  if (length > 0) await readExactly(client, length);
  return { option, length };
}

function reply(option: number, type: number): Buffer {
  const bytes = Buffer.alloc(REPLY_BYTES);
  bytes.writeBigUInt64BE(REPLY_MAGIC, 0);
  bytes.writeUInt32BE(option, 8);
  bytes.writeUInt32BE(type, 12);
  return bytes;
}

/** What was sent ahead was put in by somebody on the way, or means nothing good. */
function refuseMore(peer: Duplex): void {
  if (peer.readableLength > 0) throw new Error('it sent more before TLS had begun');
}
