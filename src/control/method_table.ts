// SPDX-License-Identifier: Apache-2.0
// A program's methods on its control socket: for each, what it takes and what it answers.
import type * as v from 'valibot';

export type MethodTable = Record<
  string,
  { readonly params: v.GenericSchema; readonly result: v.GenericSchema }
>;

export type MethodName<T extends MethodTable> = keyof T & string;
export type ParamsOf<T extends MethodTable, M extends keyof T> = v.InferOutput<T[M]['params']>;
export type ResultOf<T extends MethodTable, M extends keyof T> = v.InferOutput<T[M]['result']>;

/** One function per method: checked parameters in, the result or a thrown error out. */
export type HandlersOf<T extends MethodTable> = {
  [M in keyof T]: (params: ParamsOf<T, M>) => Promise<ResultOf<T, M>>;
};

/** Of a program with a control socket, as its clients speak of it. */
export interface ServerWords {
  /** "daemon" */
  name: string;
  /** "systemctl start ringdisk, or ringdisk serve" */
  start: string;
  /** What else to look at when it does not answer: ", and whether ..." */
  silent?: string;
}
