// Socket: one connection as its user sees it, with Bun.Socket's names.
//
// The state machine is native (connection.zig); this half names it by index and generation, checks
// arguments, and turns records into handler calls. Handlers are shared by all connections of one
// `listen` or `connect`. A handler that throws is told to `error`, or to the process.

import { Buffer } from "node:buffer";
import { End, Family, Shut, SocketOption } from "./abi.ts";
import { lend, takeBack } from "./buffer.ts";
import type { ConnectionReceiver, HandlerResult } from "./completion.ts";
import {
  argumentError,
  checkBoolean,
  checkInteger,
  reportUncaught,
  resultError,
} from "./errors.ts";
import { byteLengthOf, readAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

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

type Stage = "connecting" | "open" | "ending" | "closed";

export class Socket<Data = undefined> implements ConnectionReceiver, Disposable {
  /** Whatever the user keeps with the connection. */
  data: Data;
  /** @internal */ readonly generation: number;
  readonly #ring: Ring;
  readonly #index: number;
  readonly #handlers: Handlers;
  readonly #listener: unknown;
  readonly #onSettled: ((error: Error | null) => void) | null;
  #stage: Stage;
  #keepsAlive = true;
  #bytesWritten = 0;
  #local: NumericAddress | null = null;
  #remote: NumericAddress | null = null;

  /** @internal Sockets come from `listen` and `connect`. */
  constructor(
    ring: Ring,
    index: number,
    generation: number,
    handlers: Handlers,
    data: Data,
    listener: unknown,
    onSettled: ((error: Error | null) => void) | null,
  ) {
    this.data = data;
    this.generation = generation;
    this.#ring = ring;
    this.#index = index;
    this.#handlers = handlers;
    this.#listener = listener;
    this.#onSettled = onSettled;
    this.#stage = onSettled === null ? "open" : "connecting";
    ring.opened(true);
  }

  // Writing ------------------------------------------------------------------------------------

  /**
   * Queues bytes and returns how many were taken; the bytes are the caller's again at once. Less
   * than offered means: wait for `drain`. -1 if the socket is closed or ending. send(2).
   */
  write(
    data: string | ArrayBufferView | ArrayBufferLike,
    byteOffset?: number,
    byteLength?: number,
  ): number {
    const plain =
      data instanceof Uint8Array && byteOffset === undefined && byteLength === undefined;
    return this.#write(plain ? data : this.#bytesOf("write", data, byteOffset, byteLength));
  }

  #write(bytes: Uint8Array): number {
    const length = byteLengthOf("write", bytes);
    if (this.#stage === "ending" || this.#stage === "closed") return -1;
    if (length === 0) return 0;
    const { handle, loop } = this.#ring;
    const taken = native.bu_connection_write(handle, this.#index, this.generation, bytes, length);
    if (taken < 0) return -1; // broken: `close` is on its way and says why
    this.#bytesWritten += taken;
    loop.touch();
    return taken;
  }

  #bytesOf(
    operation: string,
    data: unknown,
    byteOffset: number | undefined,
    byteLength: number | undefined,
  ): Uint8Array {
    const bytes = viewOf(operation, data);
    if (byteOffset === undefined && byteLength === undefined) return bytes;
    const start = checkInteger(operation, "byteOffset", byteOffset ?? 0, 0, bytes.byteLength);
    const most = bytes.byteLength - start;
    const length = checkInteger(operation, "byteLength", byteLength ?? most, 0, most);
    return bytes.subarray(start, start + length);
  }

  /**
   * Sends what is queued, then FIN. Data goes on arriving until the peer ends its side too; then
   * the socket closes by itself. Returns the bytes taken of `data`; the rest of it would be lost,
   * so a large last piece is written first, with `drain`.
   */
  end(
    data?: string | ArrayBufferView | ArrayBufferLike,
    byteOffset?: number,
    byteLength?: number,
  ): number {
    let taken = 0;
    if (data !== undefined) {
      taken = this.#write(this.#bytesOf("end", data, byteOffset, byteLength));
    }
    if (this.#stage === "closed" || this.#stage === "ending") return data === undefined ? 0 : -1;
    this.#stage = "ending";
    this.#shut(Shut.end);
    return taken;
  }

  /** Ends the writing side (`true`), or both sides without waiting for the peer. shutdown(2). */
  shutdown(halfClose = false): void {
    checkBoolean("shutdown", "halfClose", halfClose);
    if (halfClose) this.end();
    else this.close();
  }

  /** Sends what is queued, then closes without waiting for the peer's FIN. */
  close(): void {
    if (this.#stage === "closed") return;
    this.#stage = "ending";
    this.#shut(Shut.close);
  }

  /** Drops what is queued and resets the connection (RST). */
  terminate(): void {
    if (this.#stage === "closed") return;
    this.#stage = "ending";
    this.#shut(Shut.terminate);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #shut(how: Shut): void {
    native.bu_connection_shut(this.#ring.handle, this.#index, this.generation, how);
    this.#ring.loop.touch();
  }

  /** Hands queued bytes to the kernel now instead of at the end of the turn. */
  flush(): void {
    if (this.#stage !== "closed") this.#ring.submit();
  }

  // Reading ------------------------------------------------------------------------------------

  /** Stops receiving, so that TCP pushes back; what is on its way is still delivered. */
  pause(): void {
    this.#pause(1);
  }

  resume(): void {
    this.#pause(0);
  }

  #pause(paused: 0 | 1): void {
    if (this.#stage === "closed") return;
    native.bu_connection_pause(this.#ring.handle, this.#index, this.generation, paused);
    this.#ring.loop.touch();
  }

  // Properties and options ---------------------------------------------------------------------

  /** Bun's numbers: 1 established, 2 connecting, -1 closed or ending. */
  get readyState(): -1 | 1 | 2 {
    if (this.#stage === "open") return 1;
    return this.#stage === "connecting" ? 2 : -1;
  }

  get listener(): unknown {
    return this.#listener;
  }

  /** Bytes that `write` and `end` took. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  get remoteAddress(): string | undefined {
    return this.#address(End.remote)?.host;
  }

  get remotePort(): number | undefined {
    return portOf(this.#address(End.remote));
  }

  get remoteFamily(): "IPv4" | "IPv6" | undefined {
    return familyOf(this.#address(End.remote));
  }

  get localAddress(): string | undefined {
    return this.#address(End.local)?.host;
  }

  get localPort(): number | undefined {
    return portOf(this.#address(End.local));
  }

  get localFamily(): "IPv4" | "IPv6" | undefined {
    return familyOf(this.#address(End.local));
  }

  /** Asked of the kernel once; undefined if that was not done while the socket was open. */
  #address(end: End): NumericAddress | undefined {
    const known = end === End.local ? this.#local : this.#remote;
    if (known !== null) return known;
    if (this.#stage === "closed" || this.#stage === "connecting") return undefined;
    const { handle } = this.#ring;
    const address = readAddress((out) =>
      native.bu_connection_address(handle, this.#index, this.generation, end, out),
    );
    if (end === End.local) this.#local = address;
    else this.#remote = address;
    return address ?? undefined;
  }

  /** TCP_NODELAY, on by default. False if the socket is closed or not TCP. tcp(7) */
  setNoDelay(noDelay = true): boolean {
    checkBoolean("setNoDelay", "noDelay", noDelay);
    return this.#option(SocketOption.no_delay, noDelay ? 1 : 0);
  }

  /** SO_KEEPALIVE; `initialDelay` is the idle time before the first probe, in milliseconds. */
  setKeepAlive(enable = false, initialDelay = 0): boolean {
    checkBoolean("setKeepAlive", "enable", enable);
    checkInteger("setKeepAlive", "initialDelay", initialDelay, 0, 2_147_483_647);
    const seconds = Math.max(1, Math.ceil((initialDelay || KEEP_ALIVE_IDLE_MS) / 1000));
    return this.#option(SocketOption.keep_alive, enable ? Math.min(seconds, 32767) : 0);
  }

  #option(option: SocketOption, value: number): boolean {
    if (this.#stage === "closed") return false;
    const { handle } = this.#ring;
    return native.bu_connection_option(handle, this.#index, this.generation, option, value) >= 0;
  }

  /** The process stays alive while the socket is open: the default. */
  ref(): this {
    return this.#reference(true);
  }

  unref(): this {
    return this.#reference(false);
  }

  #reference(keepsAlive: boolean): this {
    if (this.#stage === "closed" || this.#keepsAlive === keepsAlive) return this;
    this.#keepsAlive = keepsAlive;
    this.#ring.referenced(keepsAlive ? 1 : -1);
    return this;
  }

  // Records ------------------------------------------------------------------------------------

  /** @internal */
  onOpen(): HandlerResult {
    if (this.#stage === "connecting") this.#stage = "open";
    this.#onSettled?.(null);
    return this.#handlers.open?.(this);
  }

  /** @internal */
  onData(offset: number, length: number, buffer: number): HandlerResult {
    const { data, binaryType } = this.#handlers;
    if (data === undefined) return undefined;
    const { memory, handle } = this.#ring;
    if (binaryType === "buffer") {
      return data(this, memory.copyBuffer(offset, length));
    }
    if (binaryType === "borrowed") {
      const loan = lend(handle, memory, offset, length, buffer);
      if (loan === null) return data(this, memory.copyBuffer(offset, length));
      try {
        return data(this, Buffer.from(loan));
      } finally {
        takeBack(loan);
      }
    }
    const copy = memory.copyBytes(offset, length);
    return data(this, (binaryType === "arraybuffer" ? copy.buffer : copy));
  }

  /** @internal */
  onDrain(): HandlerResult {
    return this.#handlers.drain?.(this);
  }

  /** @internal */
  onEnd(): HandlerResult {
    try {
      return this.#handlers.end?.(this);
    } finally {
      if (!this.#handlers.allowHalfOpen) this.end();
    }
  }

  /** @internal */
  onClose(result: number): HandlerResult {
    if (this.#stage === "closed") return undefined;
    if (this.#stage === "connecting") return this.onConnectFailed(result);
    const error = result === 0 ? undefined : this.#failure(result);
    this.#leave();
    return this.#handlers.close?.(this, error);
  }

  /** @internal */
  onConnectFailed(result: number): HandlerResult {
    const error = resultError(result, "connect", this.#subject(), "completion");
    this.#leave();
    try {
      return this.#handlers.connectError?.(this, error);
    } finally {
      this.#onSettled?.(error);
    }
  }

  /** @internal */
  onThrown(thrown: unknown): void {
    const { error: handler } = this.#handlers;
    if (handler === undefined) return reportUncaught(thrown);
    const error = thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
    try {
      const outcome: unknown = handler(this, error);
      if (outcome instanceof Promise) outcome.catch(reportUncaught);
    } catch (second) {
      reportUncaught(second);
    }
  }

  #failure(result: number): Error {
    return resultError(result, "socket", this.#subject(), "completion");
  }

  #subject(): string {
    if (this.#remote === null) return "connection";
    const { host, port, family } = this.#remote;
    return family === "unix" ? host : `${family === "ipv6" ? `[${host}]` : host}:${port}`;
  }

  /** @internal The address that `connect` was given, for messages and `remoteAddress`. */
  target(address: NumericAddress): void {
    this.#remote = address;
  }

  #leave(): void {
    this.#stage = "closed";
    const { connections } = this.#ring;
    if (connections[this.#index] === this) connections[this.#index] = undefined;
    this.#ring.gone(this.#keepsAlive);
  }
}

/** Linux' default is two hours; Node's and Bun's, when keep-alive is asked for without a delay. */
const KEEP_ALIVE_IDLE_MS = 7_200_000;

function portOf(address: NumericAddress | undefined): number | undefined {
  return address === undefined || address.family === "unix" ? undefined : address.port;
}

function familyOf(address: NumericAddress | undefined): "IPv4" | "IPv6" | undefined {
  if (address === undefined || address.family === "unix") return undefined;
  return Family[address.family] === Family.ipv6 ? "IPv6" : "IPv4";
}

/** Any binary data as bytes. It is copied before the call returns, so it may well be resizable. */
function viewOf(operation: string, data: unknown): Uint8Array {
  if (typeof data === "string") return Buffer.from(data);
  try {
    // Rebuilt from the memory itself: what a view says of its own bounds is checked by this.
    if (ArrayBuffer.isView(data)) {
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    }
    if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) {
      return new Uint8Array(data);
    }
  } catch (cause) {
    const error = argumentError(operation, "data", "memory that is still there", data);
    error.cause = cause;
    throw error;
  }
  throw argumentError(operation, "data", "a string, an ArrayBuffer or a view of one", data);
}
