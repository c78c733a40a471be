// SPDX-License-Identifier: Apache-2.0
// The TypeScript half of a loopback guest's disk driver: it negotiates as Linux's blkfront does.
// The other half, NativeLoopbackGuest, owns the rings and moves the data.
import type {
  Abi,
  LoopbackResult,
  LoopbackWorkload,
  NativeBinding,
  NativeLoopbackGuest,
} from '../datapath/binding.ts';
import type { Watch, XenstoreClient, XenstoreRequests } from '../xenstore/client.ts';
import { readIfAllowed } from '../xenstore/read_if_allowed.ts';
import type { VbdPaths } from './loopback_toolstack.ts';
import { waitForNode } from './wait_for_node.ts';

/** What this frontend would like; it takes as much of it as the backend offers. */
export interface FrontendWishes {
  queues?: number;
  ringPageOrder?: number;
  indirectSegments?: number;
  persistentGrants?: boolean;
  abi?: Abi;
}

/** What it got. */
export interface FrontendAgreement {
  queues: number;
  ringPageOrder: number;
  /** 0: no indirect requests. */
  indirectSegments: number;
  persistentGrants: boolean;
  /** Bytes. */
  capacity: number;
  logicalBlockBytes: number;
  readOnly: boolean;
  flush: boolean;
  barrier: boolean;
  discard: boolean;
  discardGranularity: number;
}

interface Transport {
  queues: number;
  ringPageOrder: number;
  abi: Abi;
}

interface QueueNodes {
  ringRefs: number[];
  eventChannel: number;
}

const STATE = {
  Initialising: '1',
  InitWait: '2',
  Initialised: '3',
  Connected: '4',
  Closing: '5',
  Closed: '6',
} as const;
const INFO_READ_ONLY = 4;
const BYTES_PER_SECTOR = 512;
/** kexec, guests shutting down and toolstacks all give a backend this long. */
const ANSWER_MS_MAX = 5000;
const PROTOCOLS: Record<Abi, string | undefined> = {
  native: undefined,
  x86_32: 'x86_32-abi',
  x86_64: 'x86_64-abi',
};

/** One disk of one guest domain. */
export class LoopbackFrontend {
  readonly #xenstore: XenstoreClient;
  readonly #paths: VbdPaths;
  readonly #guest: NativeLoopbackGuest;
  #backendWatch: Watch | undefined;
  #closedByBackend: Promise<void> = Promise.resolve();
  #running: Promise<unknown> = Promise.resolve();

  /** Creates the guest domain's memory; one LoopbackFrontend per domid. */
  constructor(
    binding: NativeBinding,
    machineDir: string,
    xenstore: XenstoreClient,
    paths: VbdPaths,
  ) {
    this.#xenstore = xenstore;
    this.#paths = paths;
    this.#guest = binding.createLoopbackGuest(machineDir, paths.domid);
  }

  /** From Initialising to Connected on both ends. */
  async connect(wishes: FrontendWishes = {}): Promise<FrontendAgreement> {
    await this.#backendReaches(STATE.InitWait, STATE.Initialised, STATE.Connected);
    const transport = await this.#chooseTransport(wishes);
    const queues = Array.from({ length: transport.queues }, () =>
      this.#guest.createQueue(transport),
    );
    await this.#publish(transport, queues, wishes.persistentGrants ?? true);
    await this.#backendReaches(STATE.Connected);
    const agreement = await this.#readOffer(transport, wishes);
    const { indirectSegments, persistentGrants } = agreement;
    this.#guest.start({ indirectSegments, persistentGrants });
    await this.#setState(STATE.Connected);
    await this.#watchBackend();
    return agreement;
  }

  /** One at a time. A disk that goes away meanwhile cancels it. */
  run(workload: LoopbackWorkload): Promise<LoopbackResult> {
    const running = this.#guest.run(workload);
    this.#running = running.catch(() => {});
    return running;
  }

  progress(): { requests: number; bytes: number } {
    return this.#guest.progress();
  }

  /** Ends the workload under way early; its run() resolves. */
  cancel(): void {
    this.#guest.cancel();
  }

  /** Grants that the backend uses now; 0 after a disconnect, else it leaks. */
  grantsInUse(): number {
    return this.#guest.grantsInUse();
  }

  /** To be called between the death of a backend's process and the start of the next. */
  backendDied(): void {
    this.#guest.forgetBackend();
  }

  /** The disk's size as announced now, bytes. */
  async capacity(): Promise<number> {
    return (await this.#number('sectors', 0)) * BYTES_PER_SECTOR;
  }

  /** The guest's driver lets go: Closing, Closed; done when the backend has followed. */
  async disconnect(): Promise<void> {
    await this.#unwatchBackend();
    await this.#setState(STATE.Closing);
    await this.#backendReaches(STATE.Closing, STATE.Closed);
    await this.#setState(STATE.Closed);
    await this.#backendReaches(STATE.Closed);
    this.#guest.destroyQueues();
  }

  /** Resolves when a backend that closed a connected disk is Closed, and this driver with it. */
  closedByBackend(): Promise<void> {
    return this.#closedByBackend;
  }

  /** A new kernel takes over, as kexec does it: it resets the device, then connects anew. */
  async reconnect(wishes: FrontendWishes = {}): Promise<FrontendAgreement> {
    await this.disconnect();
    await this.#setState(STATE.Initialising);
    // From Closed, which is no refusal here, to InitWait.
    const path = `${this.#paths.backend}/state`;
    const ready = (state: string | undefined) => state === STATE.InitWait;
    await waitForNode(this.#xenstore, path, ready, `${path} becomes InitWait again`, ANSWER_MS_MAX);
    return this.connect(wishes);
  }

  /** Frees the guest's memory; nothing of it may be in use. */
  async close(): Promise<void> {
    await this.#unwatchBackend();
    this.#guest.close();
  }

  // As in blkfront, a backend that closes takes the disk away at once, in use or not.
  async #watchBackend(): Promise<void> {
    let closing: () => void = () => {};
    const backendCloses = new Promise<void>((resolve) => {
      closing = resolve;
    });
    this.#closedByBackend = backendCloses.then(() => this.#follow());
    // Whoever cares asks closedByBackend(); to others a failure here is no failure of theirs.
    this.#closedByBackend.catch(() => {});
    const path = `${this.#paths.backend}/state`;
    this.#backendWatch = await this.#xenstore.watch(path, () => {
      void readIfAllowed(this.#xenstore, path).then((state = STATE.Closed) => {
        if (state === STATE.Closing || state === STATE.Closed) closing();
      }, closing);
    });
  }

  async #follow(): Promise<void> {
    await this.#unwatchBackend();
    this.#guest.cancel();
    // What is under way is still answered while the backend is Closing, and not after Closed.
    await this.#running;
    await this.#setState(STATE.Closed);
    const path = `${this.#paths.backend}/state`;
    const closed = (state: string = STATE.Closed) => state === STATE.Closed;
    await waitForNode(this.#xenstore, path, closed, `${path} becomes Closed`, ANSWER_MS_MAX);
    this.#guest.destroyQueues();
  }

  async #unwatchBackend(): Promise<void> {
    const watch = this.#backendWatch;
    this.#backendWatch = undefined;
    await watch?.remove();
  }

  async #chooseTransport(wishes: FrontendWishes): Promise<Transport> {
    const queuesOffered = await this.#number('multi-queue-max-queues', 1);
    const orderOffered = await this.#number('max-ring-page-order', 0);
    return {
      queues: Math.max(1, Math.min(wishes.queues ?? 4, queuesOffered)),
      ringPageOrder: Math.min(wishes.ringPageOrder ?? 0, orderOffered),
      abi: wishes.abi ?? 'x86_64',
    };
  }

  async #publish(transport: Transport, queues: QueueNodes[], persistent: boolean): Promise<void> {
    const { frontend } = this.#paths;
    const { ringPageOrder } = transport;
    await this.#xenstore.transaction(async (requests) => {
      // An earlier connection of this frontend may have written what this one does not.
      for (const stale of ['ring-page-order', 'multi-queue-num-queues', 'ring-ref']) {
        await requests.remove(`${frontend}/${stale}`);
      }
      if (ringPageOrder > 0) {
        await requests.write(`${frontend}/ring-page-order`, String(ringPageOrder));
      }
      const [only] = queues;
      if (queues.length === 1 && only) {
        await writeQueue(requests, frontend, only);
      } else {
        await requests.write(`${frontend}/multi-queue-num-queues`, String(queues.length));
        for (const [index, queue] of queues.entries()) {
          await writeQueue(requests, `${frontend}/queue-${index}`, queue);
        }
      }
      const protocol = PROTOCOLS[transport.abi];
      if (protocol) await requests.write(`${frontend}/protocol`, protocol);
      await requests.write(`${frontend}/feature-persistent`, persistent ? '1' : '0');
      await requests.write(`${frontend}/state`, STATE.Initialised);
    });
  }

  async #readOffer(transport: Transport, wishes: FrontendWishes): Promise<FrontendAgreement> {
    const flag = async (node: string) => (await this.#number(node, 0)) !== 0;
    const segmentsOffered = await this.#number('feature-max-indirect-segments', 0);
    const logicalBlockBytes = await this.#number('sector-size', BYTES_PER_SECTOR);
    return {
      queues: transport.queues,
      ringPageOrder: transport.ringPageOrder,
      indirectSegments: Math.min(wishes.indirectSegments ?? 256, segmentsOffered),
      persistentGrants: (wishes.persistentGrants ?? true) && (await flag('feature-persistent')),
      capacity: await this.capacity(),
      logicalBlockBytes,
      readOnly: ((await this.#number('info', 0)) & INFO_READ_ONLY) !== 0,
      flush: await flag('feature-flush-cache'),
      barrier: await flag('feature-barrier'),
      discard: await flag('feature-discard'),
      discardGranularity: await this.#number('discard-granularity', logicalBlockBytes),
    };
  }

  async #number(node: string, otherwise: number): Promise<number> {
    const text = await this.#xenstore.read(`${this.#paths.backend}/${node}`);
    return text === undefined ? otherwise : Number(text);
  }

  #setState(state: string): Promise<void> {
    return this.#xenstore.write(`${this.#paths.frontend}/state`, state);
  }

  async #backendReaches(...states: string[]): Promise<void> {
    const path = `${this.#paths.backend}/state`;
    const refuses = (state: string) =>
      (state === STATE.Closing || state === STATE.Closed) && !states.includes(STATE.Closed);
    await waitForNode(
      this.#xenstore,
      path,
      (state = '') => {
        if (refuses(state)) throw new Error(`the backend refuses: ${path} is ${state}`);
        return states.includes(state);
      },
      `${path} becomes ${states.join(' or ')}`,
      ANSWER_MS_MAX,
    );
  }
}

async function writeQueue(
  requests: XenstoreRequests,
  folder: string,
  { ringRefs, eventChannel }: QueueNodes,
): Promise<void> {
  const [first] = ringRefs;
  if (ringRefs.length === 1) await requests.write(`${folder}/ring-ref`, String(first));
  else {
    for (const [index, ref] of ringRefs.entries()) {
      await requests.write(`${folder}/ring-ref${index}`, String(ref));
    }
  }
  await requests.write(`${folder}/event-channel`, String(eventChannel));
}
