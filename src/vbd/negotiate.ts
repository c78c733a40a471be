// SPDX-License-Identifier: Apache-2.0
// Pure: what we offer for a target, and what a frontend and we agree on.
import type { BackendValues, ToolstackNodes } from '../blkif/backend_nodes.ts';
import type { FrontendNodes } from '../blkif/frontend_nodes.ts';
import type { Config } from '../config.ts';
import type { Abi, GrantStrategy, TargetCapabilities } from '../datapath/binding.ts';
import type { TargetOptions } from '../target/target_spec.ts';

const SECTOR_BYTES = 512;
// Guests know 512 and 4096; volumes of ZFS name their block size here, up to 16 MiB.
const PHYSICAL_SECTOR_BYTES_MAX = 4096;
const CDROM_BIT = 1;
const REMOVABLE_BIT = 2;
const READONLY_BIT = 4;

/** What both ends settled on when they connected. */
export interface Agreement {
  readonly abi: Abi;
  readonly queues: readonly {
    readonly ringRefs: readonly number[];
    readonly eventChannel: number;
  }[];
  readonly ringPageOrder: number;
  readonly grants: Exclude<GrantStrategy, 'auto'>;
  readonly indirectSegmentsMax: number;
  readonly readOnly: boolean;
  readonly discard: boolean;
  readonly secureDiscard: boolean;
}

/** What the toolstack and the target allow. */
export interface Media {
  readonly cdrom: boolean;
  readonly removable: boolean;
  readonly readOnly: boolean;
  readonly discard: boolean;
  readonly secureDiscard: boolean;
  /** As the guest is shown them, bytes. */
  readonly sectorSize: number;
  readonly physicalSectorSize: number;
}

/** What we put before the frontend. A guest that moves to another host must not get less there. */
export interface Offer {
  readonly queuesMax: number;
  readonly ringPageOrderMax: number;
  readonly indirectSegmentsMax: number;
  readonly persistent: boolean;
}

export function isReadOnlyMode({ mode }: Pick<ToolstackNodes, 'mode'>): boolean {
  return mode === 'r' || mode === 'r!';
}

export function isCdrom(
  toolstack: ToolstackNodes,
  frontendDeviceType: string | undefined,
): boolean {
  return (toolstack.deviceType ?? frontendDeviceType) === 'cdrom';
}

export function describeMedia(
  toolstack: ToolstackNodes,
  cdrom: boolean,
  capabilities: TargetCapabilities,
  options: TargetOptions = {},
): Media {
  const readOnly = isReadOnlyMode(toolstack) || cdrom || capabilities.readOnly;
  // Read-only comes first: a discard on a disk that may not be written is a write.
  const { sectorSize = SECTOR_BYTES } = options;
  const physical = Math.min(capabilities.physicalBlock, PHYSICAL_SECTOR_BYTES_MAX);
  const discard = !readOnly && toolstack.discardEnable !== false && capabilities.discard;
  return {
    cdrom,
    removable: toolstack.removable === true,
    readOnly,
    discard,
    secureDiscard: discard && capabilities.secureDiscard,
    sectorSize,
    physicalSectorSize: Math.max(options.physicalSectorSize ?? physical, sectorSize),
  };
}

/** `capabilities` is undefined for a drive without a disc. */
export function makeOffer(config: Config, capabilities: TargetCapabilities | undefined): Offer {
  return {
    queuesMax: capabilities?.oneChannel === true ? 1 : config.queuesMax,
    ringPageOrderMax: config.ringPageOrderMax,
    indirectSegmentsMax: config.indirectSegmentsMax,
    // By measurement, `auto` is persistent: see ARCHITECTURE.md, Grants and memory.
    persistent: config.grants === 'auto' || config.grants === 'persistent',
  };
}

/** The nodes of an offer: before InitWait. */
export function offerValues(offer: Offer): BackendValues {
  return {
    ringPageOrderMax: offer.ringPageOrderMax,
    ringPagesMax: 1 << offer.ringPageOrderMax,
    queuesMax: offer.queuesMax,
    indirectSegmentsMax: offer.indirectSegmentsMax,
    persistent: offer.persistent,
  };
}

/** The nodes of a disk: before Connected. Sizes on the wire are in units of 512 bytes, always. */
export function diskValues(media: Media, capabilities: TargetCapabilities): BackendValues {
  const { discardGranularity, discardAlignment } = capabilities;
  return {
    sectors: sectorsOf(capabilities, media),
    sectorSize: media.sectorSize,
    physicalSectorSize: media.physicalSectorSize,
    info:
      (media.cdrom ? CDROM_BIT : 0) |
      (media.removable ? REMOVABLE_BIT : 0) |
      (media.readOnly ? READONLY_BIT : 0),
    // Both always, also where nothing is cached: the guest may be moved to where something is.
    flushCache: true,
    barrier: true,
    discard: media.discard,
    discardSecure: media.secureDiscard,
    ...(media.discard
      ? { discardGranularity: Math.max(discardGranularity, media.sectorSize), discardAlignment }
      : {}),
  };
}

/** In units of 512 bytes, as many as make whole blocks of what the guest is shown. */
export function sectorsOf(
  { capacity }: TargetCapabilities,
  { sectorSize = SECTOR_BYTES }: { readonly sectorSize?: number },
): number {
  return Math.floor(capacity / sectorSize) * (sectorSize / SECTOR_BYTES);
}

/** `nodes` has been read within the limits of `offer`. */
export function agree(config: Config, offer: Offer, media: Media, nodes: FrontendNodes): Agreement {
  return {
    abi: nodes.abi,
    queues: nodes.queues,
    ringPageOrder: nodes.ringPageOrder,
    grants: agreeGrants(config, offer, nodes),
    indirectSegmentsMax: offer.indirectSegmentsMax,
    readOnly: media.readOnly,
    discard: media.discard,
    secureDiscard: media.secureDiscard,
  };
}

function agreeGrants(config: Config, offer: Offer, nodes: FrontendNodes): Agreement['grants'] {
  if (config.grants === 'map') return 'map';
  return offer.persistent && nodes.persistent ? 'persistent' : 'copy';
}
