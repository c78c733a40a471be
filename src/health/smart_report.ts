// SPDX-License-Identifier: Apache-2.0
// What `smartctl --json` says of a disk, as far as it tells whether that is going to fail. Pure.
import * as v from 'valibot';

export const DiskSmart = v.object({
  /** The whole disk: /dev/sdb. */
  device: v.string(),
  model: v.exactOptional(v.string()),
  serial: v.exactOptional(v.string()),
  /** The disk's own judgement. Missing: it does not say. */
  passed: v.exactOptional(v.boolean()),
  temperatureC: v.exactOptional(v.number()),
  hoursOn: v.exactOptional(v.number()),
  /** Sectors: replaced by spare ones, waiting for that, lost. */
  reallocated: v.exactOptional(v.number()),
  pending: v.exactOptional(v.number()),
  uncorrectable: v.exactOptional(v.number()),
  /** NVMe: bits of what is critical; errors of the medium; percent of its life that are used. */
  criticalWarning: v.exactOptional(v.number()),
  mediaErrors: v.exactOptional(v.number()),
  percentUsed: v.exactOptional(v.number()),
  /** Seconds since 1970; missing: never. */
  checked: v.exactOptional(v.number()),
  /** Why nothing is known, or nothing newer. */
  reason: v.exactOptional(v.string()),
});
export type DiskSmart = v.InferOutput<typeof DiskSmart>;

const number = v.optional(v.number());
const Attribute = v.object({ id: v.number(), raw: v.object({ value: v.number() }) });
const Report = v.object({
  smartctl: v.object({
    messages: v.optional(v.array(v.object({ string: v.string() })), []),
  }),
  model_name: v.optional(v.string()),
  serial_number: v.optional(v.string()),
  smart_status: v.optional(v.object({ passed: v.optional(v.boolean()) })),
  temperature: v.optional(v.object({ current: number })),
  power_on_time: v.optional(v.object({ hours: number })),
  scsi_grown_defect_list: number,
  ata_smart_attributes: v.optional(v.object({ table: v.array(v.unknown()) })),
  nvme_smart_health_information_log: v.optional(
    v.object({
      critical_warning: number,
      media_errors: number,
      percentage_used: number,
    }),
  ),
});

/** ATA's attributes. */
const REALLOCATED = 5;
const PENDING = 197;
const UNCORRECTABLE = 198;
const REASON_CHARS_MAX = 200;

/** `now` in seconds since 1970. Throws SyntaxError where it is no report. */
export function parseSmart(text: string, device: string, now: number): DiskSmart {
  const parsed = v.safeParse(Report, JSON.parse(text));
  if (!parsed.success) throw new SyntaxError(`smartctl: ${parsed.issues[0].message}`);
  const report = parsed.output;
  const nvme = report.nvme_smart_health_information_log;
  const attributes = new Map(
    (report.ata_smart_attributes?.table ?? [])
      .filter((row) => v.is(Attribute, row))
      .map(({ id, raw }) => [id, raw.value]),
  );
  const found = {
    model: report.model_name,
    serial: report.serial_number,
    passed: report.smart_status?.passed,
    temperatureC: report.temperature?.current,
    hoursOn: report.power_on_time?.hours,
    reallocated: attributes.get(REALLOCATED) ?? report.scsi_grown_defect_list,
    pending: attributes.get(PENDING),
    uncorrectable: attributes.get(UNCORRECTABLE),
    criticalWarning: nvme?.critical_warning,
    mediaErrors: nvme?.media_errors,
    percentUsed: nvme?.percentage_used,
  };
  const given = Object.fromEntries(
    Object.entries(found).filter(([, value]) => value !== undefined),
  );
  const isTold = found.passed !== undefined || attributes.size > 0 || nvme !== undefined;
  if (isTold) return { device, ...given, checked: now };
  const words = report.smartctl.messages.map(({ string }) => string).join('; ');
  return { device, ...given, reason: (words || 'it tells nothing').slice(0, REASON_CHARS_MAX) };
}

/** A disk that sleeps is not woken for this. */
export function isAsleep({ reason }: DiskSmart): boolean {
  return reason !== undefined && /standby|sleep/i.test(reason);
}

const PERCENT_USED_WARN = 90;

/** Sentences on what an operator has to know, worst first; none: nothing is known to be wrong. */
export function smartProblems(disk: DiskSmart): string[] {
  const { passed, pending = 0, uncorrectable = 0, criticalWarning = 0 } = disk;
  const { mediaErrors = 0, percentUsed = 0 } = disk;
  const problems: string[] = [];
  if (passed === false) problems.push('it says that it is failing');
  if (criticalWarning !== 0) problems.push(`it has critical warnings (${criticalWarning})`);
  if (uncorrectable > 0) problems.push(`${uncorrectable} sectors cannot be read`);
  if (pending > 0) problems.push(`${pending} sectors are unsure`);
  if (mediaErrors > 0) problems.push(`its medium has had ${mediaErrors} errors`);
  if (percentUsed >= PERCENT_USED_WARN) {
    problems.push(`${percentUsed} % of what it is made for has been written`);
  }
  return problems;
}
