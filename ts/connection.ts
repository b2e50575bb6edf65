// Connection: the floor of a socket. Its name in the library, how far it has come, and the records
// that concern it, turned into calls of handlers.
//
// The state machine is native (connection.zig); this half names it by index and generation. A
// handler that throws is told to `error`, or to the process, and stops nothing else.

import { Buffer } from "node:buffer";
import { lend, takeBack } from "./buffer.ts";
import type { ConnectionReceiver, HandlerResult } from "./completion.ts";
import { reportUncaught, resultError } from "./errors.ts";
import type { Handlers } from "./handlers.ts";
import type { NumericAddress } from "./memory.ts";
import type { Ring } from "./ring.ts";

/** connecting ──open──▶ open ──end, close or terminate──▶ ending ──close──▶ closed */
export type Stage = "connecting" | "open" | "ending" | "closed";

export abstract class Connection<Data> implements ConnectionReceiver {
  /** Whatever the user keeps with the connection. */
  data: Data;
  /** @internal */ readonly generation: number;
  protected readonly ring: Ring;
  protected readonly index: number;
  protected readonly handlers: Handlers;
  protected stage: Stage;
  protected keepsAlive = true;
  protected local: NumericAddress | null = null;
  protected remote: NumericAddress | null = null;
  readonly #onSettled: ((error: Error | null) => void) | null;

  /** @internal Sockets come from `listen` and `connect`. */
  constructor(
    ring: Ring,
    index: number,
    generation: number,
    handlers: Handlers,
    data: Data,
    onSettled: ((error: Error | null) => void) | null,
  ) {
    this.data = data;
    this.generation = generation;
    this.ring = ring;
    this.index = index;
    this.handlers = handlers;
    this.#onSettled = onSettled;
    this.stage = onSettled === null ? "open" : "connecting";
    ring.opened(true);
  }

  /** What follows the peer's FIN unless the socket may stay half open. */
  abstract end(): number;

  /** @internal */
  onOpen(): HandlerResult {
    if (this.stage === "connecting") this.stage = "open";
    this.#onSettled?.(null);
    return this.handlers.open?.(this);
  }

  /** @internal */
  onData(offset: number, length: number, buffer: number): HandlerResult {
    const { data, binaryType } = this.handlers;
    if (data === undefined) return undefined;
    const { memory, handle } = this.ring;
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
    return this.handlers.drain?.(this);
  }

  /** @internal */
  onEnd(): HandlerResult {
    try {
      return this.handlers.end?.(this);
    } finally {
      if (!this.handlers.allowHalfOpen) this.end();
    }
  }

  /** @internal */
  abstract onTimeout(setting: number): HandlerResult;

  /** @internal */
  onClose(result: number): HandlerResult {
    if (this.stage === "closed") return undefined;
    if (this.stage === "connecting") return this.onConnectFailed(result);
    const error = result === 0
      ? undefined
      : resultError(result, "socket", this.#subject(), "completion");
    this.#leave();
    return this.handlers.close?.(this, error);
  }

  /** @internal */
  onConnectFailed(result: number): HandlerResult {
    const error = resultError(result, "connect", this.#subject(), "completion");
    this.#leave();
    try {
      return this.handlers.connectError?.(this, error);
    } finally {
      this.#onSettled?.(error);
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

  #subject(): string {
    if (this.remote === null) return "connection";
    const { host, port, family } = this.remote;
    return family === "unix" ? host : `${family === "ipv6" ? `[${host}]` : host}:${port}`;
  }

  /** @internal The address that `connect` was given, for messages and `remoteAddress`. */
  target(address: NumericAddress): void {
    this.remote = address;
  }

  #leave(): void {
    this.stage = "closed";
    const { connections } = this.ring;
    if (connections[this.index] === this) connections[this.index] = undefined;
    this.ring.gone(this.keepsAlive);
  }
}
