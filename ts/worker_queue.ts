// ByteQueue: a bounded queue of byte messages between two threads, in shared memory.
//
//     words:  | head | tail | signal | cells ...               cell:  | turn | length | bytes ... |
//
// One thread puts and one takes; neither takes a lock, so that a Worker that is terminated in the
// middle leaves nothing locked. A cell's turn says whose it is: position p may be written when it
// is p and read when it is p + 1; then p grows by the capacity. A queue that drops its oldest takes
// it as its reader would: both claim a message by moving `head`, and one of them gets it.

import { argumentError, checkBoolean, checkInteger, UringError } from "./errors.ts";

export interface QueueOptions {
  /** Messages that wait at most, a power of two from 2 to 65536. Default 256. */
  capacity?: number;
  /** Bytes of the longest message, up to 16 MiB. Default 4096. */
  messageSize?: number;
  /** A full queue drops its oldest message instead of refusing the new one. Default false. */
  dropOldest?: boolean;
}

export interface QueueStats {
  readonly capacity: number;
  readonly messageSize: number;
  /** Messages that wait. */
  readonly queued: number;
  /** Messages put since the start, modulo 2^32, and those of them that were dropped. */
  readonly put: number;
  readonly dropped: number;
}

/** What goes to the other thread. */
export interface QueueShape {
  readonly memory: SharedArrayBuffer;
  readonly capacity: number;
  readonly messageSize: number;
  readonly dropOldest: boolean;
}

/** Words in front of the cells; `signal` is what waiters wait on. */
const HEAD = 0;
const TAIL = 1;
const SIGNAL = 2;
const DROPPED = 3;
const HEADER_WORDS = 4;
/** Words of a cell before its bytes. */
const TURN = 0;
const LENGTH = 1;
const CELL_WORDS = 2;

const CAPACITY = 256;
const MESSAGE_SIZE = 4096;
/** Looks at a cell that its reader is copying, one a millisecond; a dead reader never ends. */
const COPYING_MS = 1;
const COPYING_LOOKS = 100;

export function readQueueOptions(operation: string, options: unknown): Required<QueueOptions> {
  if (typeof options !== "object" || options === null) {
    throw argumentError(operation, "a queue's options", "an object", options);
  }
  const given = options as Record<string, unknown>;
  const dropOldest = checkBoolean(operation, "dropOldest", given["dropOldest"] ?? false);
  const messageSize = given["messageSize"] ?? MESSAGE_SIZE;
  const capacity = checkInteger(operation, "capacity", given["capacity"] ?? CAPACITY, 2, 65536);
  if ((capacity & (capacity - 1)) !== 0) {
    throw argumentError(operation, "capacity", "a power of two", capacity);
  }
  return {
    capacity,
    messageSize: checkInteger(operation, "messageSize", messageSize, 1, 1 << 24),
    dropOldest,
  };
}

export function createQueue(options: Required<QueueOptions>): QueueShape {
  const { capacity, messageSize } = options;
  const size = 4 * (HEADER_WORDS + capacity * cellWords(messageSize));
  const memory = new SharedArrayBuffer(size);
  const words = new Int32Array(memory);
  for (let at = 0; at < capacity; at++) words[HEADER_WORDS + at * cellWords(messageSize)] = at;
  return { ...options, memory };
}

function cellWords(messageSize: number): number {
  return CELL_WORDS + Math.ceil(messageSize / 4);
}

export class ByteQueue {
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #shape: QueueShape;
  readonly #mask: number;

  constructor(shape: QueueShape) {
    this.#words = new Int32Array(shape.memory);
    this.#bytes = new Uint8Array(shape.memory);
    this.#shape = shape;
    this.#mask = shape.capacity - 1;
  }

  /** Longer messages are none. */
  get messageSize(): number {
    return this.#shape.messageSize;
  }

  // The one that puts --------------------------------------------------------------------------

  /** False if it is full, and does not drop. For one thread. */
  put(message: Uint8Array): boolean {
    const words = this.#words;
    const position = Atomics.load(words, TAIL);
    const cell = this.#cell(position);
    for (let looks = 0; Atomics.load(words, cell + TURN) !== position; looks++) {
      if (!this.#shape.dropOldest || looks > COPYING_LOOKS) return false;
      this.#makeRoom(position, cell);
    }
    words[cell + LENGTH] = message.byteLength;
    this.#bytes.set(message, 4 * (cell + CELL_WORDS));
    Atomics.store(words, cell + TURN, (position + 1) | 0); // from here on it can be taken
    Atomics.store(words, TAIL, (position + 1) | 0);
    this.signal();
    return true;
  }

  /** The oldest goes, unless its reader has it: then it is waited for. */
  #makeRoom(position: number, cell: number): void {
    const words = this.#words;
    const oldest = (position - this.#shape.capacity) | 0;
    if (Atomics.compareExchange(words, HEAD, oldest, (oldest + 1) | 0) === oldest) {
      Atomics.add(words, DROPPED, 1);
      Atomics.store(words, cell + TURN, position);
    } else {
      Atomics.wait(words, cell + TURN, (oldest + 1) | 0, COPYING_MS);
    }
  }

  // The one that takes -------------------------------------------------------------------------

  /** A copy of the oldest message, null if there is none. For one thread. */
  take(): Uint8Array<ArrayBuffer> | null {
    const words = this.#words;
    for (;;) {
      const position = Atomics.load(words, HEAD);
      const next = (position + 1) | 0;
      const cell = this.#cell(position);
      if (Atomics.load(words, cell + TURN) !== next) {
        if (Atomics.load(words, HEAD) === position) return null;
        continue; // it was dropped meanwhile
      }
      if (Atomics.compareExchange(words, HEAD, position, next) !== position) continue;
      const from = 4 * (cell + CELL_WORDS);
      const copy = new Uint8Array(words[cell + LENGTH] ?? 0);
      copy.set(this.#bytes.subarray(from, from + copy.byteLength));
      Atomics.store(words, cell + TURN, (position + this.#shape.capacity) | 0);
      Atomics.notify(words, cell + TURN);
      return copy;
    }
  }

  /** What `wait` is to be given: read it before looking for what it waits for. */
  get signals(): number {
    return Atomics.load(this.#words, SIGNAL);
  }

  /** Blocks until something was put or signalled since `seen`, or the time is up. */
  wait(seen: number, milliseconds: number): void {
    Atomics.wait(this.#words, SIGNAL, seen, milliseconds);
  }

  /** Ends every wait. */
  signal(): void {
    Atomics.add(this.#words, SIGNAL, 1);
    Atomics.notify(this.#words, SIGNAL);
  }

  // Anybody ------------------------------------------------------------------------------------

  stats(): QueueStats {
    const words = this.#words;
    const { capacity, messageSize } = this.#shape;
    const head = Atomics.load(words, HEAD);
    const tail = Atomics.load(words, TAIL);
    return {
      capacity,
      messageSize,
      queued: Math.max(0, (tail - head) | 0),
      put: tail >>> 0,
      dropped: Atomics.load(words, DROPPED) >>> 0,
    };
  }

  #cell(position: number): number {
    return HEADER_WORDS + (position & this.#mask) * cellWords(this.#shape.messageSize);
  }
}

/** A message into a queue, or why it does not go in. */
export function putMessage(queue: ByteQueue, message: unknown): void {
  const bytes = typeof message === "string" ? Buffer.from(message) : message;
  if (!(bytes instanceof Uint8Array)) {
    throw new UringError("EINVAL", "post", "post: a message is a Uint8Array or a string");
  }
  if (bytes.byteLength > queue.messageSize) {
    const text = `post: ${bytes.byteLength} bytes, and messages have at most ` +
      `${queue.messageSize}; start the Worker with a larger \`messageSize\``;
    throw new UringError("EMSGSIZE", "post", text);
  }
  if (queue.put(bytes)) return;
  const text = "post: the queue is full; post again later, or start the Worker with more " +
    "`capacity` or with `dropOldest`";
  throw new UringError("EAGAIN", "post", text);
}
