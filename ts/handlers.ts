// The handlers of a connection: Bun's names, checked once and brought into one shape.
//
// All connections of one `listen` or `connect` share one `Handlers` by reference, so that `reload`
// reaches those that are open as well. The hot path sees a single shape and stays monomorphic.

import type { Buffer } from "node:buffer";
import { argumentError, checkBoolean } from "./errors.ts";
import type { Socket } from "./socket.ts";

/** What `data` is given. "borrowed" lends the receive buffer itself until the handler returns. */
export interface BinaryTypes {
  buffer: Buffer;
  uint8array: Uint8Array<ArrayBuffer>;
  arraybuffer: ArrayBuffer;
  borrowed: Buffer;
}
export type BinaryType = keyof BinaryTypes;

type Handled = void | Promise<void>;

/** Handlers with the names of Bun's; `socket` is the connection that they concern. */
export interface SocketHandler<Data = undefined, Type extends BinaryType = "buffer"> {
  open?(socket: Socket<Data>): Handled;
  data?(socket: Socket<Data>, chunk: BinaryTypes[Type]): Handled;
  /** There is room again after a `write` that took less than it was offered. */
  drain?(socket: Socket<Data>): Handled;
  /** The peer sent FIN: no more data comes. */
  end?(socket: Socket<Data>): Handled;
  /** The connection is gone; `error` says why if it did not end in order. */
  close?(socket: Socket<Data>, error?: Error): Handled;
  /** A handler threw or rejected. Without it the error goes to the process. */
  error?(socket: Socket<Data>, error: Error): Handled;
  connectError?(socket: Socket<Data>, error: Error): Handled;
  binaryType?: Type;
}

/** Handlers after checking, the same shape for every user: the hot path stays monomorphic. */
export interface Handlers {
  readonly open: Handler;
  readonly data: ((socket: unknown, chunk: unknown) => Handled) | undefined;
  readonly drain: Handler;
  readonly end: Handler;
  readonly close: ((socket: unknown, error?: Error) => Handled) | undefined;
  readonly error: ((socket: unknown, error: Error) => Handled) | undefined;
  readonly connectError: ((socket: unknown, error: Error) => Handled) | undefined;
  readonly binaryType: BinaryType;
  readonly allowHalfOpen: boolean;
}
type Handler = ((socket: unknown) => Handled) | undefined;

const HANDLER_NAMES = ["open", "data", "drain", "end", "close", "error", "connectError"] as const;
const BINARY_TYPES: readonly string[] = ["buffer", "uint8array", "arraybuffer", "borrowed"];

export function readHandlers(
  operation: string,
  socket: unknown,
  allowHalfOpen: unknown = false,
): Handlers {
  if (typeof socket !== "object" || socket === null) {
    throw argumentError(operation, "socket", "an object with handlers", socket);
  }
  const given = socket as Record<string, unknown>;
  for (const name of HANDLER_NAMES) {
    const handler = given[name];
    if (handler !== undefined && typeof handler !== "function") {
      throw argumentError(operation, `socket.${name}`, "a function", handler);
    }
  }
  const binaryType = given["binaryType"] ?? "buffer";
  if (typeof binaryType !== "string" || !BINARY_TYPES.includes(binaryType)) {
    const expected = `one of ${BINARY_TYPES.join(", ")}`;
    throw argumentError(operation, "socket.binaryType", expected, binaryType);
  }
  checkBoolean(operation, "allowHalfOpen", allowHalfOpen);
  const bound = Object.fromEntries(
    HANDLER_NAMES.map((name) => [name, (given[name] as Function | undefined)?.bind(socket)]),
  );
  return { ...bound, binaryType, allowHalfOpen } as unknown as Handlers;
}
