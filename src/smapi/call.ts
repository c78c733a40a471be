// SPDX-License-Identifier: Apache-2.0
// From what was run to a method and its checked parameters.
import path from 'node:path';
import * as v from 'valibot';
import { SmapiError, unimplemented } from './errors.ts';
import {
  DATAPATH_METHODS,
  type DatapathMethod,
  VOLUME_METHODS,
  type VolumeMethod,
} from './schema.ts';
import type { RawCall } from './server.ts';

/** The two kinds of plugins, as XAPI names their folders. */
export type PluginKind = 'volume' | 'datapath';

export interface Call {
  readonly kind: PluginKind;
  readonly method: VolumeMethod | DatapathMethod;
  readonly params: Readonly<Record<string, unknown>>;
}

interface MethodSchemas {
  readonly params: v.GenericSchema & { readonly entries: v.ObjectEntries };
  readonly result: v.GenericSchema;
}

/** Throws SmapiError. */
export function parseCall({ script, style, text }: RawCall): Call {
  const kind = path.basename(path.dirname(path.dirname(script))) === 'datapath';
  const { method, schemas } = findMethod(kind ? 'datapath' : 'volume', path.basename(script));
  const given = style === 'json' ? parseJson(text) : parseArguments(text, schemas);
  const checked = v.safeParse(schemas.params, given);
  if (!checked.success) {
    const [issue] = checked.issues;
    throw badCall(`${method}: ${v.getDotPath(issue) ?? 'the request'}: ${issue.message}`);
  }
  const params = checked.output as Record<string, unknown>;
  return { kind: kind ? 'datapath' : 'volume', method, params };
}

/** What the caller will not take never leaves. Throws SmapiError. */
export function formatResult({ kind, method }: Call, result: unknown): string {
  const { schemas } = findMethod(kind, method);
  const checked = v.safeParse(schemas.result, result);
  if (checked.success) return JSON.stringify(result);
  const [issue] = checked.issues;
  const where = v.getDotPath(issue) ?? 'the result';
  throw new SmapiError('SR_BACKEND_FAILURE', [
    '',
    'RESULT_INVALID',
    `${method} would have answered what XAPI does not take: ${where}: ${issue.message}`,
  ]);
}

/** By whatever case, as XAPI's daemon looks for its file. */
function findMethod(
  kind: PluginKind,
  name: string,
): { method: VolumeMethod | DatapathMethod; schemas: MethodSchemas } {
  const table: Record<string, MethodSchemas> =
    kind === 'datapath' ? DATAPATH_METHODS : VOLUME_METHODS;
  const wanted = name.toLowerCase();
  const method = Object.keys(table).find((known) => known.toLowerCase() === wanted);
  const schemas = method === undefined ? undefined : table[method];
  if (!schemas) throw unimplemented(name);
  return { method: method as VolumeMethod | DatapathMethod, schemas };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw badCall('the request is not JSON');
  }
}

/** As static-vdis calls: values in their order, objects as "--name key value" for each entry. */
function parseArguments(text: string, { params }: MethodSchemas): Record<string, unknown> {
  const words = text === '' ? [] : text.split('\0');
  const objects = new Map<string, [string, string][]>();
  const values: string[] = [];
  while (words.length > 0) {
    const word = words.shift() ?? '';
    const [, name] = /^--([a-z_]+)$/.exec(word) ?? [];
    const [key, value] = name === undefined ? [] : words.splice(0, 2);
    if (name === undefined) values.push(word);
    else if (key === undefined || value === undefined) throw badCall(`${word} wants two words`);
    else objects.set(name, [...(objects.get(name) ?? []), [key, value]]);
  }
  const given = Object.keys(params.entries).map((name) => {
    const isObject = name === 'configuration';
    return [name, isObject ? Object.fromEntries(objects.get(name) ?? []) : values.shift()] as const;
  });
  return Object.fromEntries(given);
}

function badCall(message: string): SmapiError {
  return new SmapiError('SR_BACKEND_FAILURE', ['', 'REQUEST_INVALID', message]);
}
