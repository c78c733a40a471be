// SPDX-License-Identifier: Apache-2.0
// The requests that a connection makes for itself: watches, transactions, the home of a domain.
import { XenstoreError } from './client.ts';
import { parseDecimal } from './paths.ts';
import type { Session } from './session.ts';
import { decodeStrings, encodeStrings, messageType } from './wire.ts';
import { absentIsUndefined } from './wire_requests.ts';

export async function registerWatch(session: Session, path: string, token: string): Promise<void> {
  const payload = encodeStrings(path, token);
  const what = `watch ${path}`;
  await session.request({ type: messageType.watch, transaction: 0, payload, what });
}

export async function unregisterWatch(
  session: Session,
  path: string,
  token: string,
): Promise<void> {
  const payload = encodeStrings(path, token);
  const what = `stop watching ${path}`;
  const type = messageType.unwatch;
  await absentIsUndefined(session.request({ type, transaction: 0, payload, what }));
}

export async function askDomainPath(session: Session, domid: number): Promise<string> {
  const payload = encodeStrings(String(domid));
  const what = `ask for the home of domain ${domid}`;
  const type = messageType.getDomainPath;
  const [path] = decodeStrings(await session.request({ type, transaction: 0, payload, what }));
  if (path === undefined) throw new XenstoreError('EPROTO', 'xenstored told no domain path');
  return path;
}

/** The number of a new transaction. */
export async function askTransaction(session: Session): Promise<number> {
  const payload = encodeStrings('');
  const what = 'start a transaction';
  const type = messageType.transactionStart;
  const [text = ''] = decodeStrings(await session.request({ type, transaction: 0, payload, what }));
  const id = parseDecimal(text, 0xffff_ffff);
  if (id) return id;
  throw new XenstoreError('EPROTO', `xenstored told a transaction number ${JSON.stringify(text)}`);
}

/** Resolves when it is over; rejects with EAGAIN when the commit met a conflict. */
export async function endTransaction(session: Session, id: number, commit: boolean): Promise<void> {
  const payload = encodeStrings(commit ? 'T' : 'F');
  const what = commit ? 'commit a transaction' : 'abort a transaction';
  await session.request({ type: messageType.transactionEnd, transaction: id, payload, what });
}
