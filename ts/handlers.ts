// The handlers of a connection: Bun's names, checked once and brought into one shape.
//
// All connections of one `listen`, or the one of a `connect`, have one `Handlers` by reference:
// `reload` writes into it, and so reaches those that are open as well. The hot path sees a single
// shape and stays monomorphic.

import type { Buffer } from "node:buffer";
import type { BorrowedChunk } from "./borrowed.ts";
import { argumentError, checkBoolean, checkInteger } from "./errors.ts";
import { readZeroCopyThreshold } from "./ring_options.ts";
import type { Socket } from "./socket.ts";

/** What `data` is given. "borrowed" lends the receive buffer itself: see `BorrowedChunk`. */
export interface BinaryTypes {
  buffer: Buffer;
  uint8array: Uint8Array<ArrayBuffer>;
  arraybuffer: ArrayBuffer;
  borrowed: BorrowedChunk;
}
export type BinaryType = keyof BinaryTypes;

type Handled = void | Promise<void>;

/** Handlers with the names of Bun's; `socket` is the connection that they concern. */
export interface SocketHandler<Data = undefined, Type extends BinaryType = "buffer"> {
  open?(socket: Socket<Data>): Handled;
  /** Bytes came. Without it they wait for `for await` or `readable`. */
  data?(socket: Socket<Data>, chunk: BinaryTypes[Type]): Handled;
  /** There is room again after a `write` that took less than it was offered. */
  drain?(socket: Socket<Data>): Handled;
  /** The peer sent FIN: no more data comes. */
  end?(socket: Socket<Data>): Handled;
  /** The connection is gone; `error` says why if it did not end in order. */
  close?(socket: Socket<Data>, error?: Error): Handled;
  /** A handler threw or rejected. Without it the error goes to the process. */
  error?(socket: Socket<Data>, error: Error): Handled;
  /** No connection came about; the promise of `connect` rejects afterwards. */
  connectError?(socket: Socket<Data>, error: Error): Handled;
  /** The time of `socket.timeout` has passed. Without it the connection is reset. */
  timeout?(socket: Socket<Data>): Handled;
  /** Of TLS, which there is none of: never called, as by Bun for a plain connection. */
  handshake?(socket: Socket<Data>, success: boolean, authorizationError: Error | null): Handled;
  binaryType?: Type;
}

/** What `reload` is given. */
export interface Reload<Data = undefined> {
  socket: SocketHandler<Data, BinaryType>;
}

/** What connections of one origin share besides their handlers. */
export interface SharedOptions {
  /** After the peer's FIN the socket stays writable until `end`. Default false. */
  allowHalfOpen?: boolean;
  /**
   * Milliseconds that `close` and `listener.stop(true)` give queued bytes to leave; then the
   * connection is reset, and its `close` handler told so. Default 30 000; 0 is without a bound.
   */
  closeTimeout?: number;
  /** Bytes that may be queued before `write` takes less. Default: the ring's `highWaterMark`. */
  highWaterMark?: number;
  /**
   * Bytes from which on `send`, `writev` and `chain` send without a copy; `Infinity` is never.
   * Default: the ring's `zeroCopyThreshold`.
   */
  zeroCopyThreshold?: number;
  /**
   * Descriptors that a peer sends over a Unix socket are received, for `takeDescriptors`; without
   * it the kernel closes them. Default false. unix(7), SCM_RIGHTS
   */
  passDescriptors?: boolean;
}

/** Handlers after checking, the same shape for every user. */
export interface Handlers {
  open: Handler;
  data: ((socket: unknown, chunk: unknown) => Handled) | undefined;
  drain: Handler;
  end: Handler;
  close: ((socket: unknown, error?: Error) => Handled) | undefined;
  error: ((socket: unknown, error: Error) => Handled) | undefined;
  connectError: ((socket: unknown, error: Error) => Handled) | undefined;
  timeout: Handler;
  binaryType: BinaryType;
  readonly allowHalfOpen: boolean;
  readonly closeTimeout: number;
  /** 0 where the ring's holds. */
  readonly highWaterMark: number;
  readonly zeroCopyMin: number;
  readonly passDescriptors: boolean;
}
type Handler = ((socket: unknown) => Handled) | undefined;

const CALLED = [
  "open", "data", "drain", "end", "close", "error", "connectError", "timeout",
] as const;
const BINARY_TYPES: readonly string[] = ["buffer", "uint8array", "arraybuffer", "borrowed"];

const CLOSE_TIMEOUT_MS = 30_000;

export function readHandlers(
  operation: string,
  socket: unknown,
  options: SharedOptions,
): Handlers {
  const { allowHalfOpen = false, closeTimeout = CLOSE_TIMEOUT_MS, highWaterMark } = options;
  const { passDescriptors = false } = options;
  const given = readCalled(operation, socket);
  checkBoolean(operation, "allowHalfOpen", allowHalfOpen);
  checkBoolean(operation, "passDescriptors", passDescriptors);
  checkInteger(operation, "closeTimeout", closeTimeout, 0, 0xffff_ffff);
  const mark = highWaterMark === undefined
    ? 0
    : checkInteger(operation, "highWaterMark", highWaterMark, 1, 1 << 30);
  const zeroCopyMin = readZeroCopyThreshold(operation, options.zeroCopyThreshold);
  const checked = { allowHalfOpen, closeTimeout, highWaterMark: mark, zeroCopyMin };
  return { ...given, ...checked, passDescriptors };
}

/** Puts other handlers in the place of all that were there. */
export function reloadHandlers(handlers: Handlers, options: unknown): void {
  const { socket } = (options ?? {}) as { socket?: unknown };
  Object.assign(handlers, readCalled("reload", socket));
}

function readCalled(
  operation: string,
  socket: unknown,
): Omit<Handlers, keyof SharedOptions | "zeroCopyMin"> {
  if (typeof socket !== "object" || socket === null) {
    throw argumentError(operation, "socket", "an object with handlers", socket);
  }
  const given = socket as Record<string, unknown>;
  const bound: Record<string, unknown> = {};
  for (const name of [...CALLED, "handshake"]) {
    const handler = given[name];
    if (handler !== undefined && typeof handler !== "function") {
      throw argumentError(operation, `socket.${name}`, "a function", handler);
    }
    if (name !== "handshake") bound[name] = handler?.bind(socket);
  }
  const binaryType = given["binaryType"] ?? "buffer";
  if (typeof binaryType !== "string" || !BINARY_TYPES.includes(binaryType)) {
    const expected = `one of ${BINARY_TYPES.join(", ")}`;
    throw argumentError(operation, "socket.binaryType", expected, binaryType);
  }
  bound["binaryType"] = binaryType;
  return bound as unknown as Handlers;
}
