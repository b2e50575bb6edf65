// Drains completion records: reads them by generated offsets and calls whom they concern.
//
// Step 11 of the straight line. It knows tables of receivers, not sockets; a receiver that throws
// is told so and stops nothing else (I7). Bounded: it looks at the clock and stops between two
// records when the time is up, to go on at the next tick (I9).

import { drainMicrotasks } from "bun:jsc";
import { Event, NO_LISTENER, RECORD_SIZE, RECORD_WORDS } from "./abi.ts";
import { reportUncaught } from "./errors.ts";
import type { Memory } from "./memory.ts";

/** What a handler returned: of a promise, the rejection is the handler's failure. */
export type HandlerResult = unknown;

/** A connection as the records see it; `connection.ts` implements it. */
export interface ConnectionReceiver {
  readonly generation: number;
  onOpen(): HandlerResult;
  onData(offset: number, length: number, buffer: number): HandlerResult;
  /** So many descriptors come with the bytes of the next record. */
  onDescriptors(count: number): void;
  onDrain(): HandlerResult;
  onEnd(): HandlerResult;
  /** All was forwarded that there will be, or the target is lost. */
  onForwarded(result: number): HandlerResult;
  /** The time-out that was set as the `setting`-th has passed. */
  onTimeout(setting: number): HandlerResult;
  onClose(result: number): HandlerResult;
  onConnectFailed(result: number): HandlerResult;
  /** A handler of this connection threw or rejected. */
  onThrown(error: unknown): void;
}

export interface ListenerReceiver {
  /** The connection that a new slot belongs to. */
  accept(index: number, generation: number): ConnectionReceiver;
  onClosed(result: number): void;
}

/** An operation in flight; `operation.ts` implements it. */
export interface OperationReceiver {
  readonly generation: number;
  /** `more`: further completions of the same operation will follow. */
  onCompletion(result: number, more: boolean): void;
}

/** A datagram socket; `datagram.ts` implements it. What its handlers throw it tells itself. */
export interface DatagramReceiver {
  readonly generation: number;
  /** Of one that is closing: its descriptor is free. */
  readonly left: Promise<void> | null;
  /** `extra` and `data` as in the record. */
  onDatagrams(offset: number, length: number, extra: number, data: number): void;
  onDrain(): void;
  onError(result: number): void;
  onClosed(result: number): void;
}

/** Whom posts concern; `post.ts` implements it. */
export interface PostReceiver {
  /** `data` is the number, or the address of a block. */
  onPost(key: number, data: number, isBlock: boolean): HandlerResult;
}

/** Whom the records concern, and how far they are dispatched; `engine.ts` implements it. */
export interface Receivers {
  readonly memory: Memory;
  readonly operations: (OperationReceiver | undefined)[];
  readonly connections: (ConnectionReceiver | undefined)[];
  readonly listeners: (ListenerReceiver | undefined)[];
  readonly datagrams: (DatagramReceiver | undefined)[];
  readonly posts: PostReceiver | null;
  /** A connection whose listener nobody knows any more. */
  orphan(index: number, generation: number): void;
  /** The records of the last turn: the next one to dispatch, and their number. */
  next: number;
  count: number;
  /** Records dispatched since the ring was opened, and where to stop: `runSome`. */
  handled: number;
  limit: number;
  /** A handler is running: what it may not call looks here. */
  calling: boolean;
}

const WORDS = RECORD_SIZE / 4;
/** Records between two looks at the clock: about 10 µs of small handlers. */
const CLOCK_STRIDE = 32;
/**
 * Completions of operations between two drains of microtasks: handlers of connections have one
 * each, but operations come in batches, and an awaited NOP would cost a fifth more.
 */
const COMPLETIONS_RUN = 16;

/**
 * Dispatches records until none is left, `limit` is reached or `deadline` (performance.now,
 * milliseconds) has passed. The position stands in `ring`: code after an `await` runs in here and
 * may turn the ring itself, which dispatches what is left before the records are overwritten.
 */
export function drain(ring: Receivers, deadline: number): void {
  const { records } = ring.memory;
  const from = ring.next;
  while (ring.next < ring.count && ring.handled < ring.limit) {
    const i = ring.next;
    if ((i & (CLOCK_STRIDE - 1)) === CLOCK_STRIDE - 1 && performance.now() > deadline) {
      // At least one record was dispatched, so that every call makes progress.
      if (i > from) break;
    }
    ring.next = i + 1;
    ring.handled++;
    const at = i * WORDS;
    if (records[at + RECORD_WORDS.event] === Event.completion) {
      complete(records, at, ring);
      if ((i & (COMPLETIONS_RUN - 1)) !== COMPLETIONS_RUN - 1) continue;
    } else {
      dispatch(records, at, ring);
    }
    // What was settled goes on, as after any callback of Bun's. 20 ns, 80 ns with work.
    drainMicrotasks();
  }
  drainMicrotasks();
}

function dispatch(records: Int32Array, at: number, ring: Receivers): void {
  const event = records[at + RECORD_WORDS.event] as Event;
  const index = records[at + RECORD_WORDS.index] as number;
  if (event === Event.post || event === Event.post_block) return post(records, at, ring, event);
  if (event >= Event.datagram) return tell(records, at, ring, event, index);
  if (event === Event.listener_closed) {
    ring.listeners[index]?.onClosed(records[at + RECORD_WORDS.result] as number);
    return;
  }
  const generation = (records[at + RECORD_WORDS.generation] as number) >>> 0;
  let receiver = ring.connections[index];
  if (event === Event.open && (receiver === undefined || receiver.generation !== generation)) {
    receiver = admit(records, at, index, generation, ring);
  }
  if (receiver === undefined || receiver.generation !== generation) return;
  ring.calling = true;
  try {
    const outcome = deliver(receiver, event, records, at);
    if (typeof outcome === "object" && outcome !== null) watch(receiver, outcome);
  } catch (error) {
    receiver.onThrown(error);
  }
  ring.calling = false;
}

function post(records: Int32Array, at: number, ring: Receivers, event: Event): void {
  const key = (records[at + RECORD_WORDS.extra] as number) >>> 0;
  const data = ring.memory.recordDoubles[at / 2 + RECORD_WORDS.data] as number;
  ring.calling = true;
  try {
    ring.posts?.onPost(key, data, event === Event.post_block);
  } catch (error) {
    reportUncaught(error);
  }
  ring.calling = false;
}

/** What concerns a datagram socket. */
function tell(
  records: Int32Array,
  at: number,
  ring: Receivers,
  event: Event,
  index: number,
): void {
  const socket = ring.datagrams[index];
  const generation = (records[at + RECORD_WORDS.generation] as number) >>> 0;
  if (socket === undefined || socket.generation !== generation) return;
  const result = records[at + RECORD_WORDS.result] as number;
  ring.calling = true;
  if (event === Event.datagram) {
    socket.onDatagrams(
      records[at + RECORD_WORDS.offset] as number,
      result,
      records[at + RECORD_WORDS.extra] as number,
      ring.memory.recordDoubles[at / 2 + RECORD_WORDS.data] as number,
    );
  } else if (event === Event.datagram_drain) {
    socket.onDrain();
  } else if (event === Event.datagram_error) {
    socket.onError(result);
  } else {
    socket.onClosed(result);
  }
  ring.calling = false;
}

function complete(records: Int32Array, at: number, ring: Receivers): void {
  const index = records[at + RECORD_WORDS.index] as number;
  const operation = ring.operations[index];
  const generation = (records[at + RECORD_WORDS.generation] as number) >>> 0;
  if (operation === undefined || operation.generation !== generation) return;
  ring.calling = true;
  try {
    const more = records[at + RECORD_WORDS.extra] !== 0;
    operation.onCompletion(records[at + RECORD_WORDS.result] as number, more);
  } catch (error) {
    reportUncaught(error);
  }
  ring.calling = false;
}

function admit(
  records: Int32Array,
  at: number,
  index: number,
  generation: number,
  ring: Receivers,
): ConnectionReceiver | undefined {
  const from = (records[at + RECORD_WORDS.extra] as number) >>> 0;
  const listener = from === NO_LISTENER ? undefined : ring.listeners[from];
  if (listener === undefined) {
    ring.orphan(index, generation);
    return undefined;
  }
  const receiver = listener.accept(index, generation);
  ring.connections[index] = receiver;
  return receiver;
}

function deliver(
  receiver: ConnectionReceiver,
  event: Event,
  records: Int32Array,
  at: number,
): HandlerResult {
  const result = records[at + RECORD_WORDS.result] as number;
  switch (event) {
    case Event.data: {
      const offset = (records[at + RECORD_WORDS.offset] as number) >>> 0;
      return receiver.onData(offset, result, records[at + RECORD_WORDS.extra] as number);
    }
    case Event.drain:
      return receiver.onDrain();
    case Event.open:
      return receiver.onOpen();
    case Event.end:
      return receiver.onEnd();
    case Event.descriptors:
      return receiver.onDescriptors(result);
    case Event.forwarded:
      return receiver.onForwarded(result);
    case Event.timeout:
      return receiver.onTimeout((records[at + RECORD_WORDS.extra] as number) >>> 0);
    case Event.close:
      return receiver.onClose(result);
    case Event.connect_failed:
      return receiver.onConnectFailed(result);
    default:
      return undefined;
  }
}

function watch(receiver: ConnectionReceiver, outcome: object): void {
  const { then } = outcome as Partial<PromiseLike<unknown>>;
  if (typeof then !== "function") return;
  then.call(outcome, undefined, (error: unknown) => receiver.onThrown(error));
}
