// SPDX-License-Identifier: Apache-2.0
// The configuration: defaults, then the file (JSON with comments), then the command line; checked
// once and frozen.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { type ParseError, parse, printParseErrorCode } from 'jsonc-parser';
import * as v from 'valibot';
import type { EngineOptions, PlatformKind } from './datapath/binding.ts';
import { ConfigError } from './errors.ts';
import { ON_ERROR } from './target/target_spec.ts';

const MIB = 1024 * 1024;
const REACTORS_MAX = 64;
const CPU_MAX = 8191;

const integer = (min: number, max: number) =>
  v.custom<number>(
    (input) => Number.isInteger(input) && (input as number) >= min && (input as number) <= max,
    `an integer from ${min} to ${max}`,
  );
const oneOf = <const T extends readonly string[]>(words: T) =>
  v.picklist(words, `one of ${words.join(', ')}`);
const noRepetition = <T>() =>
  v.check((list: T[]) => new Set(list).size === list.length, 'a list without repetitions');

const backendKind = v.custom<string>(
  (input) => typeof input === 'string' && /^[A-Za-z0-9_-]{1,32}$/.test(input),
  'a backend kind such as "vbd3"',
);
const absolutePath = v.custom<string>(
  (input) => typeof input === 'string' && /^\/[^\0]{0,1000}$/.test(input),
  'an absolute path',
);
const cpuNumber = integer(0, CPU_MAX);

export const RUNTIME_DIR = '/run/ringdisk';
export const CONFIG_FILE = '/etc/ringdisk/config.json';

/** The value of a key that is not given; `reactors` depends on the machine. */
const defaults = {
  backends: ['vbd3'],
  runtimeDir: RUNTIME_DIR,
  cpus: [] as number[],
  pollBudgetUs: 'auto',
  bouncePoolBytes: 32 * MIB,
  grants: 'auto',
  onError: 'report',
  // Four rings' worth: what Linux keeps per ring, times the queues blkfront opens by default.
  persistentPagesPerVbd: 4 * 1056,
  persistentPagesMax: 65536,
  // A constant, not the reactors' count: a guest that migrates must find no less than it had.
  queuesMax: 8,
  ringPageOrderMax: 4,
  indirectSegmentsMax: 256,
  closeOnStop: false,
  force: false,
  logLevel: 'info',
} as const;

const schema = v.strictObject(
  {
    /** Backend kinds served: folders under /local/domain/N/backend. */
    backends: v.pipe(
      v.array(backendKind, 'a list of backend kinds'),
      v.minLength(1, 'a list of at least one backend kind'),
      v.maxLength(16, 'a list of at most 16 backend kinds'),
      noRepetition<string>(),
    ),
    /** Control socket and journals. */
    runtimeDir: absolutePath,
    /** Reactor threads. */
    reactors: integer(1, REACTORS_MAX),
    /** CPU numbers to pin reactors to, one each; empty: unpinned. */
    cpus: v.pipe(v.array(cpuNumber, 'a list of CPU numbers'), noRepetition<number>()),
    /** Microseconds a reactor polls without finding work before it sleeps. */
    pollBudgetUs: v.union(
      [v.literal('auto'), integer(0, 100_000)],
      '"auto" or an integer from 0 to 100000',
    ),
    /** Bounce memory per reactor. */
    bouncePoolBytes: v.pipe(
      integer(MIB, 4096 * MIB),
      v.check((bytes) => bytes % MIB === 0, 'a multiple of 1048576'),
    ),
    grants: oneOf(['auto', 'persistent', 'copy', 'map']),
    /** Of disks whose target does not say: tell the guest, or let it wait and try again. */
    onError: oneOf(ON_ERROR),
    persistentPagesPerVbd: integer(0, 1 << 20),
    /** Host-wide bound; Xen's default allows 262144 mappings for all guests together. */
    persistentPagesMax: integer(0, 1 << 20),
    queuesMax: integer(1, 16),
    ringPageOrderMax: integer(0, 4),
    /** 0: indirect requests are not offered. */
    indirectSegmentsMax: integer(0, 256),
    /** On SIGTERM: leave the disks to the next start, unnoticed by their guests, or close them. */
    closeOnStop: v.boolean('true or false'),
    /** Serve kinds of disks that another backend of this host serves as well. */
    force: v.boolean('true or false'),
    logLevel: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']),
  },
  'a JSON object',
);

export type Config = Readonly<v.InferOutput<typeof schema>>;
export type ConfigOverrides = { readonly [Key in keyof Config]?: Config[Key] | undefined };

/** One core stays free for JavaScript and the host; more than four reactors rarely pay. */
export function defaultReactors(cores: number = availableParallelism()): number {
  return Math.max(1, Math.min(cores - 1, 4));
}

/**
 * What "auto" means. Where there is one CPU nobody looks out: the kernel's half of what is waited
 * for needs that CPU, and so does the guest.
 */
export function autoPollBudgetUs(cores: number = availableParallelism()): number {
  return cores > 1 ? 50 : 0;
}

/** Fills in the defaults and checks. Throws ConfigError with a sentence per problem. */
export function parseConfig(input: unknown, overrides: ConfigOverrides = {}): Config {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new ConfigError(['The configuration must be a JSON object.']);
  }
  const given = Object.entries(overrides).filter(([, value]) => value !== undefined);
  const filled = {
    ...defaults,
    reactors: defaultReactors(),
    ...input,
    ...Object.fromEntries(given),
  };
  const result = v.safeParse(schema, filled);
  if (!result.success) throw new ConfigError(result.issues.map(describe));
  const config = result.output;
  if (config.cpus.length !== 0 && config.cpus.length !== config.reactors) {
    throw new ConfigError([
      `"cpus" must be empty or name one CPU per reactor (${config.reactors}), ` +
        `but names ${config.cpus.length}.`,
    ]);
  }
  Object.freeze(config.backends);
  Object.freeze(config.cpus);
  return Object.freeze(config);
}

/** What is read where no file is named; it need not be there. Tests' machines have none. */
export function usualConfigFile(platform: PlatformKind, file = CONFIG_FILE): string | undefined {
  return platform === 'xen' && existsSync(file) ? file : undefined;
}

/** Reads the file (none: defaults only), applies the overrides, checks. Throws ConfigError. */
export async function loadConfig(
  file: string | undefined,
  overrides: ConfigOverrides = {},
): Promise<Config> {
  if (file === undefined) return parseConfig({}, overrides);
  let input: unknown;
  try {
    input = parseJson(await readFile(file, 'utf8'));
  } catch (error) {
    throw new ConfigError([`The configuration file ${file} cannot be read: ${messageOf(error)}.`]);
  }
  return parseConfig(input, overrides);
}

/** JSON with comments. Throws SyntaxError, which says where it is wrong. */
function parseJson(text: string): unknown {
  const errors: ParseError[] = [];
  const value: unknown = parse(text, errors, { allowTrailingComma: true });
  const [first] = errors;
  if (first === undefined) return value;
  const before = text.slice(0, first.offset).split('\n');
  const column = (before.at(-1) ?? '').length + 1;
  const what = printParseErrorCode(first.error);
  throw new SyntaxError(`line ${before.length}, column ${column}: ${what}`);
}

/** The part of the configuration the native engine needs. */
export function engineOptions(config: Config): Omit<EngineOptions, 'platform' | 'machineDir'> {
  const { reactors, bouncePoolBytes, persistentPagesMax } = config;
  const pollBudgetUs = config.pollBudgetUs === 'auto' ? autoPollBudgetUs() : config.pollBudgetUs;
  const fillDir = path.join(config.runtimeDir, 'fills');
  const cpus = [...config.cpus];
  return { reactors, cpus, pollBudgetUs, bouncePoolBytes, persistentPagesMax, fillDir };
}

function describe(issue: v.InferIssue<typeof schema>): string {
  const key = issue.path?.map((item) => String(item.key)).join('.') ?? '';
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    return `"${key}" is not a known key; known are ${Object.keys(schema.entries).join(', ')}.`;
  }
  const shown = JSON.stringify(issue.input)?.slice(0, 100) ?? 'missing';
  return `"${key}" must be ${issue.message}, but is ${shown}.`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
