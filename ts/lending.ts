// Lending: sends that take memory instead of copying it, and chains of them.
//
// `write` copies and answers at once; these take the memory, and a promise tells when all of it was
// sent and is the caller's again. They lie in the same queue, in the order of the calls: what is
// written, sent and chained arrives in that order, and `end` and `close` wait for all of it.

import { OperationKind, SendFlag, SocketOption } from "./abi.ts";
import type { RangeOptions, Source, Transferred } from "./cargo.ts";
import { argumentError, checkBoolean, UringError } from "./errors.ts";
import { readDescriptors } from "./message.ts";
import { native } from "./native.ts";
import {
  CHAIN_KIND,
  launch,
  NO_OPTIONS,
  optionsOf,
  type Operation,
  type OperationOptions,
} from "./operation.ts";
import { Sending } from "./sending.ts";
import {
  ChainOfParts,
  Gathered,
  OneBuffer,
  type ChainResult,
  type StreamCargo,
} from "./stream_cargo.ts";

/** What each of them takes. */
export interface SendOptions extends OperationOptions {
  /**
   * Without a copy if it is large enough for the socket's `zeroCopyThreshold`; then the promise
   * waits until the peer has it, since the memory is the kernel's so long. Default true.
   */
  zeroCopy?: boolean | undefined;
  /**
   * Descriptors that go with the first byte over a Unix socket, at most 253; yours to close at
   * once. The peer gets descriptors of its own for the same open files. unix(7), SCM_RIGHTS
   */
  descriptors?: readonly number[] | undefined;
}

export interface SendOneOptions extends SendOptions, RangeOptions {}

export interface ChainOptions extends SendOptions {
  /**
   * If a member is not sent to its end: "resume" sends the remainder again, in order, as long as
   * there is a connection; "report" sends nothing more of the chain and tells how far it came.
   * Default "resume".
   */
  onBreak?: "resume" | "report" | undefined;
}

export abstract class Lending<Data> extends Sending<Data> {
  #corks = 0;

  /**
   * Sends all bytes of `data` from where they are: a pooled buffer, a `SharedArrayBuffer`, or an
   * ArrayBuffer, which is moved in. A plain typed array or a string is copied, all of it. Yields
   * `{ bytes, buffer }` when everything was sent and the memory is the caller's again; rejects with
   * what was sent in `error.bytes` and the memory in `error.buffer`. Cancelling gives up what has
   * not been sent. send(2)
   */
  send<B extends Source>(data: B, options?: SendOneOptions): Operation<Transferred<B>> {
    const given = optionsOf("send", options);
    const flags = flagsOf("send", given);
    const cargo = new OneBuffer<B>("send", data, given, flags, this);
    return this.#start(OperationKind.send, "send", cargo, given);
  }

  /**
   * Sends several buffers as one message, as `send` does: heads and bodies leave together.
   * writev(2)
   */
  writev<B extends Source>(
    parts: readonly B[],
    options?: SendOptions,
  ): Operation<Transferred<readonly B[]>> {
    const given = optionsOf("writev", options);
    const cargo = new Gathered<B>("writev", parts, flagsOf("writev", given), this);
    return this.#start(OperationKind.writev, "writev", cargo, given);
  }

  /**
   * Sends several buffers as linked sends, one for each part: the kernel runs them in order without
   * coming back in between. Yields `{ bytes, total, buffer, error }`; with `onBreak: "report"` also
   * where it broke.
   */
  chain<B extends Source>(parts: readonly B[], options?: ChainOptions): Operation<ChainResult<B>> {
    const given = optionsOf("chain", options);
    const { onBreak = "resume" } = given;
    if (onBreak !== "resume" && onBreak !== "report") {
      throw argumentError("chain", "onBreak", "\"resume\" or \"report\"", onBreak);
    }
    const report = onBreak === "report" ? 1 << SendFlag.report_break : 0;
    const cargo = new ChainOfParts<B>(parts, flagsOf("chain", given) | report, this);
    return this.#start(CHAIN_KIND, "chain", cargo, given);
  }

  #start<T>(
    kind: OperationKind,
    name: string,
    cargo: StreamCargo<T>,
    options: SendOptions,
  ): Operation<T> {
    this.ring.assertOpen(name);
    if (this.stage === "ending" || this.stage === "closed") {
      throw new UringError("ESHUTDOWN", name, `${name}: the socket is ${this.stage}`);
    }
    const { signal, timeout } = options; // read once: they may be getters
    const { ring, index, generation } = this;
    ring.memory.arguments.reset(-1);
    const given = signal === undefined && timeout === undefined ? NO_OPTIONS : { signal, timeout };
    const stream = { index, generation };
    cargo.passed = readDescriptors(name, options.descriptors);
    let operation: Operation<T>;
    try {
      operation = launch<T>(ring, kind, -1, cargo, given, undefined, stream);
    } catch (error) {
      if (cargo.passed.length > 0) explain(error, name);
      throw error;
    }
    if (timeout !== undefined && operation.pending) {
      cargo.limit(timeout, () => void operation.cancel());
    }
    return operation;
  }

  /**
   * Calls `callback` and sends what it wrote to this socket as one: nothing leaves before it
   * returns, and all of it at once then. Its result is the callback's. Corks within corks count.
   */
  cork<T>(callback: (socket: this) => T): T {
    if (typeof callback !== "function") {
      throw argumentError("cork", "callback", "a function", callback);
    }
    if (this.#corks++ === 0) this.#option(SocketOption.corked, 1);
    try {
      return callback(this);
    } finally {
      if (--this.#corks === 0) {
        this.#option(SocketOption.corked, 0);
        // What the callback has thrown is not to be hidden by a ring that ends.
        if (this.ring.state === "open") this.flush();
      }
    }
  }

  /** @internal */
  override attach(index: number, generation: number): void {
    super.attach(index, generation);
    const { highWaterMark, zeroCopyMin } = this.handlers;
    if (highWaterMark > 0) this.#option(SocketOption.high_water_mark, highWaterMark);
    if (zeroCopyMin > 0) this.#option(SocketOption.zero_copy_min, zeroCopyMin);
  }

  #option(option: SocketOption, value: number): void {
    if (this.index < 0) return;
    native.bu_connection_option(this.ring.handle, this.index, this.generation, option, value);
  }
}

/** What the library refuses of descriptors, in words. */
function explain(error: unknown, name: string): void {
  if (!(error instanceof UringError)) return;
  if (error.code === "EOPNOTSUPP") {
    error.message = `${name}: descriptors go over Unix sockets only`;
  } else if (error.code === "EINVAL") {
    error.message = `${name}: descriptors go with a byte: there are none to send`;
  } else if (error.code === "EBADF") {
    error.message = `${name}: one of the descriptors is not open`;
  }
}

function flagsOf(kind: string, options: SendOptions): number {
  return checkBoolean(kind, "zeroCopy", options.zeroCopy ?? true) ? 0 : 1 << SendFlag.copy;
}
