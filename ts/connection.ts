// Connection: the floor of a socket. Its name in the library, how far it has come, and the records
// that concern it, turned into calls of handlers.
//
// The state machine is native (connection.zig); this half names it by index and generation. A
// handler that throws is told to `error`, or to the process, and stops nothing else.

import { borrowChunk } from "./borrowed.ts";
import type { ConnectionReceiver, HandlerResult } from "./completion.ts";
import { reportUncaught, resultError } from "./errors.ts";
import { reloadHandlers, type Handlers, type Reload } from "./handlers.ts";
import type { Inbox } from "./inbox.ts";
import type { NumericAddress } from "./memory.ts";
import type { Ring } from "./ring.ts";

/** connecting ──open──▶ open ──end, close or terminate──▶ ending ──close──▶ closed */
export type Stage = "connecting" | "open" | "ending" | "closed";

/** The `connect` that a connection comes from; `connect.ts` implements it. */
export interface Opening {
  /** It was given up: what opens all the same is not told. */
  readonly abandoned: boolean;
  /** True if another address is tried in place of the one that failed. */
  retry(result: number): boolean;
  /** Why there is no connection. */
  failure(result: number): Error;
  settled(error: Error | null): void;
}

/** Told once that a connection is gone, and why if it did not end in order. */
type Farewell = (failure: Error | undefined) => void;

export abstract class Connection<Data> implements ConnectionReceiver {
  /** Whatever the user keeps with the connection. */
  data: Data;
  /** @internal */ generation = 0;
  protected readonly ring: Ring;
  protected readonly handlers: Handlers;
  protected index = -1;
  protected stage: Stage;
  protected keepsAlive = true;
  /** Chunks that no handler took; null while there is a handler, and nothing came without. */
  protected inbox: Inbox | null = null;
  /** The peer's FIN does not end this side, whatever `allowHalfOpen` says. */
  protected staysWritable = false;
  /** Why we ended the connection ourselves, if not in order. */
  protected reason: Error | undefined = undefined;
  protected local: NumericAddress | null = null;
  protected remote: NumericAddress | null = null;
  readonly #opening: Opening | null;
  #farewells: Farewell[] | null = null;

  /** @internal Sockets come from `listen` and `connect`. */
  constructor(ring: Ring, handlers: Handlers, data: Data, opening: Opening | null) {
    this.data = data;
    this.ring = ring;
    this.handlers = handlers;
    this.#opening = opening;
    this.stage = opening === null ? "open" : "connecting";
    ring.opened(true);
  }

  /** @internal The slot that the library has given it. */
  attach(index: number, generation: number): void {
    this.index = index;
    this.generation = generation;
    this.ring.connections[index] = this;
  }

  /** What follows the peer's FIN unless the socket may stay half open. */
  abstract end(): number;

  /** Keeps bytes that no handler takes. */
  protected abstract hold(offset: number, length: number, buffer: number): void;

  // Records ------------------------------------------------------------------------------------

  /** @internal */
  onOpen(): HandlerResult {
    if (this.#opening?.abandoned) return undefined; // its `close` is on its way
    if (this.stage === "connecting") this.stage = "open";
    this.#opening?.settled(null);
    return this.handlers.open?.(this);
  }

  /** @internal */
  onData(offset: number, length: number, buffer: number): HandlerResult {
    const { data, binaryType } = this.handlers;
    if (data === undefined || this.inbox !== null) {
      return this.hold(offset, length, buffer);
    }
    const { memory } = this.ring;
    if (binaryType === "buffer") {
      return data(this, memory.copyBuffer(offset, length));
    }
    if (binaryType === "borrowed") {
      const chunk = borrowChunk(memory, this.ring.keeping, offset, length, buffer);
      try {
        return data(this, chunk);
      } finally {
        chunk.handled();
      }
    }
    const copy = memory.copyBytes(offset, length);
    return data(this, (binaryType === "arraybuffer" ? copy.buffer : copy));
  }

  /** @internal Descriptors, with the bytes of the next record. */
  abstract onDescriptors(count: number): void;

  /** @internal */
  onDrain(): HandlerResult {
    return this.handlers.drain?.(this);
  }

  /** @internal */
  onEnd(): HandlerResult {
    try {
      return this.handlers.end?.(this);
    } finally {
      if (!this.handlers.allowHalfOpen && !this.staysWritable) this.end();
    }
  }

  /** @internal */
  abstract onForwarded(result: number): HandlerResult;

  /** @internal */
  abstract onTimeout(setting: number): HandlerResult;

  /** @internal */
  onClose(result: number): HandlerResult {
    if (this.stage === "closed") return undefined;
    if (this.stage === "connecting") return this.onConnectFailed(result);
    if (result < 0) {
      this.reason ??= resultError(result, "socket", this.#subject(), "completion");
    }
    this.#leave();
    return this.handlers.close?.(this, this.reason);
  }

  /** @internal */
  onConnectFailed(result: number): HandlerResult {
    const opening = this.#opening as Opening;
    this.#detach();
    if (opening.retry(result)) return undefined;
    return this.refuse(opening.failure(result));
  }

  /** @internal There will be no connection. */
  refuse(error: Error): HandlerResult {
    this.reason = error;
    this.#leave();
    try {
      return this.handlers.connectError?.(this, error);
    } finally {
      this.#opening?.settled(error);
    }
  }

  /** @internal A call of a handler from elsewhere than a record. */
  outside(call: () => HandlerResult): void {
    try {
      const outcome = call();
      if (outcome instanceof Promise) outcome.catch((error: unknown) => this.onThrown(error));
    } catch (error) {
      this.onThrown(error);
    }
  }

  /** @internal */
  onThrown(thrown: unknown): void {
    const { error: handler } = this.handlers;
    if (handler === undefined) return reportUncaught(thrown);
    const error = thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown });
    try {
      const outcome: unknown = handler(this, error);
      if (outcome instanceof Promise) outcome.catch(reportUncaught);
    } catch (second) {
      reportUncaught(second);
    }
  }

  // Handlers -----------------------------------------------------------------------------------

  /**
   * Puts other handlers in the place of all that were there: for this connection if it comes from
   * `connect`, for all of its listener's, open ones and new ones, if it does not.
   */
  reload(options: Reload<Data>): void {
    reloadHandlers(this.handlers, options);
    this.reloaded();
  }

  /** @internal There may be a `data` handler now. */
  abstract reloaded(): void;

  // The end ------------------------------------------------------------------------------------

  /** At once if it is gone already. */
  protected whenGone(farewell: Farewell): void {
    if (this.stage === "closed") farewell(this.reason);
    else (this.#farewells ??= []).push(farewell);
  }

  #subject(): string {
    if (this.remote === null) return "connection";
    const { host, port, family } = this.remote;
    return family === "unix" ? host : `${family === "ipv6" ? `[${host}]` : host}:${port}`;
  }

  /** @internal The address that `connect` was given, for messages and `remoteAddress`. */
  target(address: NumericAddress): void {
    this.remote = address;
  }

  #detach(): void {
    const { connections } = this.ring;
    if (connections[this.index] === this) connections[this.index] = undefined;
    this.index = -1;
  }

  #leave(): void {
    this.stage = "closed";
    this.#detach();
    this.ring.gone(this.keepsAlive);
    const farewells = this.#farewells;
    this.#farewells = null;
    for (const farewell of farewells ?? []) farewell(this.reason);
  }
}
