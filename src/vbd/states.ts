// SPDX-License-Identifier: Apache-2.0
// The life of a VBD as a table: our state x the frontend's state x what is wished for = what to do.
// Pure; vbd.ts looks here after every change and does what it is told.
import type { XenbusStateName } from '../blkif/xenbus_state.ts';

/**
 * Our side's state. All but one are spelled as in xenbus.h; `Left` is a VBD that a dead daemon left
 * Connected and that cannot be taken over: nobody can know its requests, and its nodes stay
 * untouched until its frontend moves.
 */
export type OurState = 'Initialising' | 'InitWait' | 'Connected' | 'Closing' | 'Closed' | 'Left';

/** serve: the frontend decides. close: toolstack, operator, daemon or a failure ends the device. */
export type Wish = 'serve' | 'close';

export type Action =
  /** Nothing to do until something changes. */
  | 'wait'
  /** Nothing to do, but nobody should be in that state: one log line. */
  | 'ignore'
  /** Let go of any old connection, open the target, publish the offer, go to InitWait. */
  | 'offer'
  /** Read the frontend's nodes, agree, connect the data path, publish, go to Connected. */
  | 'connect'
  /** Connect anew if the frontend's rings are not the ones we serve (it was resumed). */
  | 'verify'
  /** Go to Closing at once; requests are still served. */
  | 'begin-close'
  /** Let go of the rings and the target, go to Closed. */
  | 'finish-close';

type Row = Readonly<Record<XenbusStateName, Action>>;
type Table = Readonly<Record<TableState, Row>>;

/** `Orphaned`: Left by a dead daemon, and being taken over again and again. */
export type TableState = OurState | 'Orphaned';

// No driver uses Reconfiguring and Reconfigured with block devices; InitWait is a step that
// frontends may take before they publish anything.
const left: Row = {
  Unknown: 'finish-close',
  Initialising: 'offer',
  InitWait: 'wait',
  // No request is on a ring whose frontend is not connected yet.
  Initialised: 'offer',
  Connected: 'wait',
  Closing: 'begin-close',
  Closed: 'finish-close',
  Reconfiguring: 'ignore',
  Reconfigured: 'ignore',
};

const serve: Table = {
  // Our directory is fresh, or the daemon that offered before us is gone. Whatever the frontend
  // does, the toolstack waits for InitWait; without a frontend there is nobody to wait for.
  Initialising: {
    Unknown: 'wait',
    Initialising: 'offer',
    InitWait: 'offer',
    Initialised: 'offer',
    Connected: 'offer',
    Closing: 'offer',
    Closed: 'offer',
    Reconfiguring: 'offer',
    Reconfigured: 'offer',
  },
  InitWait: {
    Unknown: 'finish-close',
    Initialising: 'wait',
    InitWait: 'wait',
    Initialised: 'connect',
    Connected: 'connect',
    Closing: 'begin-close',
    Closed: 'finish-close',
    Reconfiguring: 'ignore',
    Reconfigured: 'ignore',
  },
  Connected: {
    Unknown: 'finish-close',
    // The guest starts over without having closed: a crash kernel that took a short cut.
    Initialising: 'offer',
    InitWait: 'ignore',
    // Resumed after suspend: new rings, no Closing in between.
    Initialised: 'verify',
    Connected: 'verify',
    Closing: 'begin-close',
    Closed: 'finish-close',
    Reconfiguring: 'ignore',
    Reconfigured: 'ignore',
  },
  Closing: {
    Unknown: 'finish-close',
    Initialising: 'offer',
    InitWait: 'wait',
    Initialised: 'wait',
    Connected: 'wait',
    // Older kernels stay here for as long as the disk is mounted, and use it.
    Closing: 'wait',
    Closed: 'finish-close',
    Reconfiguring: 'ignore',
    Reconfigured: 'ignore',
  },
  Closed: {
    Unknown: 'wait',
    // Reboot or kexec: the frontend comes back to the same directory.
    Initialising: 'offer',
    InitWait: 'offer',
    // The way back leads through Initialising: a frontend whose nodes were refused stays refused.
    Initialised: 'wait',
    Connected: 'wait',
    Closing: 'wait',
    Closed: 'wait',
    Reconfiguring: 'ignore',
    Reconfigured: 'ignore',
  },
  Left: left,
  // It may be about to see that we are Connected.
  Orphaned: { ...left, Initialised: 'wait' },
};

// A frontend that uses the disk is told and waited for; one that does not is not asked.
const closeInUse: Row = {
  Unknown: 'finish-close',
  Initialising: 'finish-close',
  InitWait: 'finish-close',
  Initialised: 'begin-close',
  Connected: 'begin-close',
  Closing: 'begin-close',
  Closed: 'finish-close',
  Reconfiguring: 'begin-close',
  Reconfigured: 'begin-close',
};

const close: Table = {
  Initialising: every('finish-close'),
  InitWait: closeInUse,
  Connected: closeInUse,
  Closing: {
    ...every('wait'),
    Unknown: 'finish-close',
    Initialising: 'finish-close',
    Closed: 'finish-close',
  },
  Closed: every('wait'),
  Left: closeInUse,
  Orphaned: closeInUse,
};

function every(action: Action): Row {
  return {
    Unknown: action,
    Initialising: action,
    InitWait: action,
    Initialised: action,
    Connected: action,
    Closing: action,
    Closed: action,
    Reconfiguring: action,
    Reconfigured: action,
  };
}

const tables: Readonly<Record<Wish, Table>> = { serve, close };

export function decide(ours: TableState, frontend: XenbusStateName, wish: Wish): Action {
  return tables[wish][ours][frontend];
}

/** What we are in a directory that we did not write ourselves. */
export function adoptedState(node: XenbusStateName): Exclude<TableState, 'Orphaned'> {
  switch (node) {
    case 'Connected':
      return 'Left';
    case 'Closing':
    case 'Closed':
      return node;
    default:
      // Also InitWait: the target has to be opened before a frontend may answer the offer.
      return 'Initialising';
  }
}
