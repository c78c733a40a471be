// SPDX-License-Identifier: Apache-2.0
// The nine states of a xenbus device, numbered and spelled as in xenbus.h.

export const XenbusState = {
  Unknown: 0,
  Initialising: 1,
  InitWait: 2,
  Initialised: 3,
  Connected: 4,
  Closing: 5,
  Closed: 6,
  Reconfiguring: 7,
  Reconfigured: 8,
} as const;

export type XenbusStateName = keyof typeof XenbusState;

export const xenbusStateNames = Object.keys(XenbusState) as readonly XenbusStateName[];

/** The name of a `state` node's value; undefined for a value that is no state. */
export function parseXenbusState(text: string): XenbusStateName | undefined {
  return /^[0-8]$/.test(text) ? xenbusStateNames[Number(text)] : undefined;
}

export function formatXenbusState(state: XenbusStateName): string {
  return String(XenbusState[state]);
}
