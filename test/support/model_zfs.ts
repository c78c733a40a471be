// SPDX-License-Identifier: Apache-2.0
// What ZFS does with the datasets of one pool, as a model: snapshots, clones, promotion, deferred
// destruction, rollback, with the same refusals. It stands where no ZFS is; test/zfs runs the same
// on the real one.
import type { RunCommand } from '../../src/zfs/command.ts';
import { ZfsError } from '../../src/zfs/zfs_error.ts';

interface Dataset {
  type: 'filesystem' | 'volume' | 'snapshot' | 'bookmark';
  txg: number;
  /** Stands for what is in it. */
  content: number;
  own: Map<string, string>;
  size: number;
  origin?: string;
  deferred: boolean;
  /** A snapshot's, the same wherever it is sent to. */
  guid: string;
  /** Seconds since 1970; only what was received is older than it is here. */
  created: number;
  /** Of what was cut off while it arrived here. */
  partial?: Arrival;
}

/** A stream of `zfs send`, but for its payload. */
export interface StreamHead {
  volume: string;
  snapshot: string;
  guid: string;
  from?: string;
  created: number;
  content: number;
  size: number;
  /** Missing in a stream that goes on with another. */
  volumeOwn?: [string, string][];
  snapshotOwn?: [string, string][];
  bytes: number;
}

interface Arrival {
  head: StreamHead;
  arrived: number;
}

export interface ReceiveWish {
  dataset: string;
  force: boolean;
  settings: Map<string, string>;
  without: Set<string>;
}

const READS = new Set(['get', 'list']);

export class ModelZfs {
  readonly #all = new Map<string, Dataset>();
  readonly #pools: string[];
  #txg = 0;
  poolState = 'ONLINE';
  /** Of each stream. */
  payloadBytes = 4096;
  /** Seconds since 1970: of what is made from now on. Undefined: as the clock has it. */
  now: number | undefined;

  constructor(...pools: string[]) {
    this.#pools = pools;
    for (const pool of pools) {
      this.#add(pool, 'filesystem', {});
      this.#add(`${pool}/ringdisk`, 'filesystem', { 'ringdisk:uuid': `store of ${pool}` });
    }
  }

  /** Dies before the change with this number, from 0. */
  dyingAt(step: number): { run: RunCommand; died: () => boolean } {
    let changes = 0;
    let dead = false;
    const run: RunCommand = async (program, args) => {
      const isChange = program === 'zfs' && !READS.has(args[0] ?? '');
      if (isChange && changes++ === step) dead = true;
      if (dead) throw new Error('died');
      return this.run(program, args);
    };
    return { run, died: () => dead };
  }

  readonly run: RunCommand = async (program, args) => {
    await Promise.resolve();
    if (program === 'zpool') return this.#zpool(args);
    if (program === 'readlink') return this.#device(args, '/dev/zvol/', '/dev/zd:');
    if (program.endsWith('zvol_id')) return this.#device(args, '/dev/zd:', '');
    return this.#zfs(args);
  };

  /** As udev's link and ZFS's own program lead from one name to the next, and from no other. */
  #device(args: readonly string[], from: string, to: string): string {
    const path = args.at(-1) ?? '';
    const name = path.slice(from.length);
    if (!path.startsWith(from) || !this.#all.has(name)) return this.#fail(args, 'does not exist');
    return `${to}${name}\n`;
  }

  #zpool(args: readonly string[]): string {
    if (args[0] === 'events') return '';
    const named = this.#pools.filter((name) => args.includes(name));
    const [pool = ''] = named;
    const state = this.poolState;
    if (args[0] === 'status') {
      const disks = [pool, `  /dev/${pool}1`].map((name) => `\t${name} ${state} 0 0 0`);
      const config = ['config:', '', '\tNAME STATE READ WRITE CKSUM', ...disks];
      const lines = [`  pool: ${pool}`, ` state: ${state}`, ...config];
      return [...lines, '', 'errors: No known data errors', ''].join('\n');
    }
    return (named.length > 0 ? named : this.#pools)
      .map((name, at) => `${name}\t${at + 1}\t${state}\t1000\t0\t0\toff\n`)
      .join('');
  }

  /** Names of all but the store itself. */
  names(): string[] {
    return [...this.#all.keys()].filter((name) => name.split(/[/@#]/).length > 2);
  }

  write(dataset: string, content: number): void {
    this.#need([], dataset).content = content;
  }

  read(dataset: string): number {
    return this.#need([], dataset).content;
  }

  #zfs(args: readonly string[]): string {
    const { settings, words } = split(args);
    const [verb = '', ...names] = words;
    const [name = '', other = ''] = names;
    switch (verb) {
      case 'list':
        return this.#list(args, name);
      case 'get':
        return this.#get(args);
      case 'create':
        return this.#create(args, name, settings);
      case 'snapshot':
        return this.#snapshot(args, name, settings);
      case 'clone':
        return this.#clone(args, name, other, settings);
      case 'promote':
        return this.#promote(args, name);
      case 'rename':
        return this.#rename(args, name, other);
      case 'rollback':
        return this.#rollback(args, name);
      case 'set':
        return this.#set(args, names);
      case 'bookmark':
        return this.#bookmark(args, name, other);
      case 'inherit':
        this.#need(args, other).own.delete(name);
        return '';
      case 'send':
        return this.#estimate(args);
      case 'receive':
        return this.#abort(args, name);
      case 'destroy':
        return this.#destroy(args, name, args.includes('-d'));
      default:
        return this.#fail(args, `no model of ${verb}`);
    }
  }

  #list(args: readonly string[], name: string): string {
    this.#need(args, name);
    return `${name}\n`;
  }

  #get(args: readonly string[]): string {
    const isRecursive = args.includes('-r');
    const at = args.indexOf('-t');
    const types = at === -1 ? undefined : args[at + 1]?.split(',');
    // "get -Hp -o COLUMNS", then what it is to do, then the properties, then the datasets.
    const from = 4 + (isRecursive ? 1 : 0) + (types ? 2 : 0);
    const [properties = '', ...asked] = args.slice(from);
    for (const one of asked) this.#need(args, one);
    const [name = ''] = asked;
    const below = (one: string) => one === name || /^[/@#]/.test(one.slice(name.length));
    const names = isRecursive
      ? [...this.#all.keys()].filter((one) => one.startsWith(name) && below(one))
      : asked;
    if (properties === 'all') {
      const { own } = this.#need(args, name);
      return [...own].map(([key, value]) => `${name}\t${key}\t${value}\tlocal\n`).join('');
    }
    return names
      .filter((one) => types === undefined || types.includes(this.#need(args, one).type))
      .flatMap((one) => properties.split(',').map((property) => this.#line(one, property)))
      .join('');
  }

  #line(name: string, property: string): string {
    const dataset = this.#need([], name);
    const own = dataset.own.get(property);
    if (own !== undefined) return `${name}\t${property}\t${own}\tlocal\n`;
    const value = this.#native(name, dataset, property);
    return `${name}\t${property}\t${value ?? '-'}\t-\n`;
  }

  #native(name: string, dataset: Dataset, property: string): string | undefined {
    const newest = this.#snapshotsOf(name).at(-1)?.[1];
    switch (property) {
      case 'type':
        return dataset.type;
      case 'creation':
        return String(dataset.created);
      case 'createtxg':
        return String(dataset.txg);
      case 'guid':
        return dataset.guid;
      case 'volsize':
        if (dataset.type === 'bookmark' || dataset.size === 0) return undefined;
        return String(dataset.size);
      case 'receive_resume_token':
        return dataset.partial && tokenOf(dataset.partial);
      case 'volblocksize':
        return '4096';
      case 'origin':
        return dataset.origin;
      case 'defer_destroy':
        return dataset.type === 'snapshot' ? (dataset.deferred ? 'on' : 'off') : undefined;
      case 'written':
        return String(newest && newest.content === dataset.content ? 0 : 1);
      default:
        return undefined;
    }
  }

  #create(args: readonly string[], name: string, settings: Map<string, string>): string {
    const at = args.indexOf('-V');
    if (this.#all.has(name)) return this.#fail(args, 'dataset already exists');
    if (!this.#all.has(parentOf(name))) return this.#fail(args, 'parent does not exist');
    const made = this.#add(name, at === -1 ? 'filesystem' : 'volume', Object.fromEntries(settings));
    made.size = at === -1 ? 0 : Number(args[at + 1]);
    return '';
  }

  #snapshot(args: readonly string[], name: string, settings: Map<string, string>): string {
    const volume = this.#need(args, parentOf(name));
    if (this.#all.has(name)) return this.#fail(args, 'dataset already exists');
    const made = this.#add(name, 'snapshot', Object.fromEntries(settings));
    Object.assign(made, { content: volume.content, size: volume.size });
    return '';
  }

  #clone(
    args: readonly string[],
    snapshot: string,
    name: string,
    settings: Map<string, string>,
  ): string {
    const { content, size } = this.#need(args, snapshot);
    if (this.#all.has(name)) return this.#fail(args, 'dataset already exists');
    const made = this.#add(name, 'volume', Object.fromEntries(settings));
    Object.assign(made, { content, size, origin: snapshot });
    return '';
  }

  #promote(args: readonly string[], name: string): string {
    const clone = this.#need(args, name);
    if (clone.origin === undefined) return this.#fail(args, 'not a cloned filesystem');
    const parent = parentOf(clone.origin);
    const last = this.#need(args, clone.origin).txg;
    const moved = this.#snapshotsOf(parent).filter(([, { txg }]) => txg <= last);
    for (const [one] of moved) {
      const target = `${name}@${one.split('@')[1]}`;
      if (this.#all.has(target)) return this.#fail(args, 'snapshot name already exists');
    }
    const old = this.#need(args, parent);
    const { origin } = old;
    for (const [one] of moved) this.#move(one, `${name}@${one.split('@')[1]}`);
    old.origin = clone.origin ?? '';
    if (origin === undefined) delete clone.origin;
    else clone.origin = origin;
    return '';
  }

  #rename(args: readonly string[], name: string, other: string): string {
    this.#need(args, name);
    if (this.#all.has(other)) return this.#fail(args, 'dataset already exists');
    const below = [...this.#all.keys()].filter((one) => /^[@#]/.test(one.slice(name.length)));
    for (const one of below.filter((each) => each.startsWith(name))) {
      this.#move(one, other + one.slice(name.length));
    }
    this.#move(name, other);
    return '';
  }

  #rollback(args: readonly string[], name: string): string {
    const { content, size, txg } = this.#need(args, name);
    const volume = parentOf(name);
    const later = [...this.#all].some(
      ([one, each]) =>
        one.startsWith(volume) && /^[@#]/.test(one.slice(volume.length)) && each.txg > txg,
    );
    if (later) return this.#fail(args, 'more recent snapshots or bookmarks exist');
    Object.assign(this.#need(args, volume), { content, size });
    return '';
  }

  #set(args: readonly string[], words: string[]): string {
    const { own, ...rest } = this.#need(args, words.at(-1) ?? '');
    for (const pair of words.slice(0, -1)) {
      const [, property = '', value = ''] = /^([^=]+)=(.*)$/s.exec(pair) ?? [];
      if (property === 'volsize') this.#need(args, words.at(-1) ?? '').size = Number(value);
      else own.set(property, value);
    }
    return rest.type === 'bookmark' ? this.#fail(args, 'bookmarks have no properties') : '';
  }

  #bookmark(args: readonly string[], snapshot: string, name: string): string {
    const { txg, content } = this.#need(args, snapshot);
    if (this.#all.has(name)) return this.#fail(args, 'bookmark exists');
    Object.assign(this.#add(name, 'bookmark', {}), { txg, content });
    return '';
  }

  #destroy(args: readonly string[], name: string, defer: boolean): string {
    const { type } = this.#need(args, name);
    const clones = [...this.#all.values()].filter(({ origin }) => origin === name);
    if (type === 'snapshot' && clones.length > 0) {
      if (!defer) return this.#fail(args, 'snapshot has dependent clones');
      this.#need(args, name).deferred = true;
      return '';
    }
    if (this.#snapshotsOf(name).length > 0) return this.#fail(args, 'volume has children');
    for (const one of [...this.#all.keys()].filter((each) => each.startsWith(`${name}#`))) {
      this.#all.delete(one);
    }
    const { origin } = this.#need(args, name);
    this.#all.delete(name);
    const isLast = ![...this.#all.values()].some((one) => one.origin === origin);
    if (origin !== undefined && isLast && this.#all.get(origin)?.deferred) this.#all.delete(origin);
    return '';
  }

  /** Oldest first. */
  #snapshotsOf(volume: string): [string, Dataset][] {
    return [...this.#all]
      .filter(([name]) => name.startsWith(`${volume}@`))
      .sort(([, one], [, other]) => one.txg - other.txg);
  }

  #move(name: string, other: string): void {
    const dataset = this.#need([], name);
    this.#all.delete(name);
    this.#all.set(other, dataset);
    for (const one of this.#all.values()) if (one.origin === name) one.origin = other;
  }

  #add(name: string, type: Dataset['type'], own: Record<string, string>): Dataset {
    const made: Dataset = {
      type,
      txg: ++this.#txg,
      content: 0,
      own: new Map(Object.entries(own)),
      size: 0,
      deferred: false,
      guid: String(++guids),
      created: this.now ?? Math.floor(Date.now() / 1000),
    };
    this.#all.set(name, made);
    return made;
  }

  /** What `zfs send` with these arguments writes before its payload. */
  send(args: readonly string[]): StreamHead {
    const token = args[args.indexOf('-t') + 1] ?? '';
    if (args.includes('-t')) {
      const { head, arrived } = JSON.parse(
        Buffer.from(token.slice(2), 'hex').toString(),
      ) as Arrival;
      const name = [...this.#all].find(([, { guid }]) => guid === head.guid)?.[0];
      if (!name) {
        return this.#fail(args, `cannot resume send: '${head.snapshot}' no longer exists`);
      }
      const { volumeOwn: _, snapshotOwn: __, ...rest } = head;
      return { ...rest, bytes: head.bytes - arrived };
    }
    const [full = ''] = args.slice(-1);
    const { guid, created, content, size, own } = this.#need(args, full);
    const from = args.includes('-i')
      ? this.#need(args, args[args.indexOf('-i') + 1] ?? '')
      : undefined;
    const [volume = '', snapshot = ''] = full.split('@');
    return {
      ...{ volume, snapshot, guid, created, content, size, bytes: this.payloadBytes },
      ...(from && { from: from.guid }),
      volumeOwn: [...this.#need(args, volume).own],
      snapshotOwn: [...own],
    };
  }

  /** What is there before the payload comes. */
  beginReceive(args: readonly string[], wish: ReceiveWish, head: StreamHead): void {
    const { dataset, force } = wish;
    const here = this.#all.get(dataset);
    if (here?.partial) {
      if (here.partial.head.guid !== head.guid)
        this.#fail(args, 'contains partially-complete state');
    } else if (head.from !== undefined) {
      this.#need(args, dataset);
      this.#refuseChanged(args, wish, head.from);
    } else if (here) this.#fail(args, `destination '${dataset}' exists, must specify -F`);
    else this.#add(dataset, 'volume', {}).partial = { head, arrived: 0 };
    const target = this.#need(args, dataset);
    // Of a new one they are set at once, of another one they are taken back where it fails.
    if (head.from === undefined || force) this.#setReceived(target, wish, head);
    target.partial ??= { head, arrived: 0 };
  }

  #refuseChanged(args: readonly string[], { dataset, force }: ReceiveWish, from: string): void {
    const snapshots = this.#snapshotsOf(dataset);
    const newest = snapshots.at(-1)?.[1];
    if (newest?.guid !== from) {
      const base = snapshots.findIndex(([, { guid }]) => guid === from);
      if (!force || base === -1) {
        this.#fail(args, `most recent snapshot of ${dataset} does not\nmatch incremental source`);
      }
      for (const [name] of snapshots.slice(base + 1)) this.#all.delete(name);
    } else if (newest.content !== this.#need(args, dataset).content && !force) {
      this.#fail(args, `destination ${dataset} has been modified\nsince most recent snapshot`);
    }
  }

  #setReceived(target: Dataset, { settings, without }: ReceiveWish, head: StreamHead): void {
    for (const [name, value] of head.volumeOwn ?? []) {
      if (!without.has(name)) target.own.set(name, value);
    }
    for (const [name, value] of settings) target.own.set(name, value);
  }

  /** The stream is over: all of it has come, or it was cut off. */
  endReceive(wish: ReceiveWish, head: StreamHead, bytes: number): 'whole' | 'cut off' {
    const target = this.#need([], wish.dataset);
    const { partial } = target;
    if (!partial) throw new Error('nothing was arriving');
    partial.arrived += bytes;
    if (partial.arrived < partial.head.bytes) return 'cut off';
    this.#setReceived(target, wish, head);
    Object.assign(target, { content: head.content, size: head.size });
    delete target.partial;
    const own = Object.fromEntries(head.snapshotOwn ?? []);
    const made = this.#add(`${wish.dataset}@${head.snapshot}`, 'snapshot', own);
    const { guid, created, content, size } = head;
    Object.assign(made, { guid, created, content, size });
    return 'whole';
  }

  #estimate(args: readonly string[]): string {
    const head = this.send(args);
    const contents = args.includes('-t')
      ? `resume token contents:\n\ttoguid = 0x${BigInt(head.guid).toString(16)}\n`
      : '';
    return `${contents}full\t${head.snapshot}\t${head.bytes}\nsize\t${head.bytes}\n`;
  }

  #abort(args: readonly string[], name: string): string {
    const target = this.#need(args, name);
    if (!target.partial) return this.#fail(args, 'does not have any resumable receive state');
    if (target.size === 0) this.#all.delete(name);
    else delete target.partial;
    return '';
  }

  #need(args: readonly string[], name: string): Dataset {
    return this.#all.get(name) ?? this.#fail(args, `cannot open '${name}': dataset does not exist`);
  }

  #fail(args: readonly string[], words: string): never {
    throw ZfsError.of('zfs', args, words);
  }
}

let guids = 0x1000;

function tokenOf(arrival: Arrival): string {
  return `1-${Buffer.from(JSON.stringify(arrival)).toString('hex')}`;
}

function parentOf(name: string): string {
  return name.replace(/[/@#][^/@#]*$/, '');
}

/** Settings, and what is left when options are. */
function split(args: readonly string[]) {
  const settings = new Map<string, string>();
  const words: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const word = args[i] ?? '';
    if (word === '-o' && args[0] !== 'get' && args[0] !== 'list') {
      const [, name = '', value = ''] = /^([^=]+)=(.*)$/s.exec(args[++i] ?? '') ?? [];
      settings.set(name, value);
    } else if (word === '-V' || word === '-o') i++;
    else if (!/^-[a-zA-Z]+$/.test(word)) words.push(word);
  }
  return { settings, words };
}
