// Piping: what a socket receives goes to another socket, natively: `pipeTo`, and `proxy` both ways.
//
// The bytes pass from the receive buffers into the target's send queue without being copied and
// without a turn of JavaScript (forwarding.zig); a target that does not keep up stops the source
// from receiving. The options are those of web streams' `pipeTo`.

import type { HandlerResult } from "./completion.ts";
import { argumentError, checkBoolean, resultError, UringError } from "./errors.ts";
import { ERRNO } from "./abi.ts";
import { native } from "./native.ts";
import { Reading } from "./reading.ts";

export interface PipeOptions {
  /** Leaves the target open when the source's peer ends its side. */
  preventClose?: boolean | undefined;
  /** Leaves the target open when the source breaks. */
  preventAbort?: boolean | undefined;
  /** Leaves the source open when the target takes no more. */
  preventCancel?: boolean | undefined;
  /** Ends the pipe; the sockets as if both had broken, unless that is prevented. */
  signal?: AbortSignal | undefined;
}

/** A pipe that has not ended. */
interface Pipe {
  readonly target: Piping<unknown>;
  readonly options: PipeOptions;
  readonly promise: PromiseWithResolvers<number>;
  readonly onAbort: () => void;
  /** Bytes that arrived before the library had been asked to forward. */
  early: number;
  /** The library forwards. */
  native: boolean;
}

export abstract class Piping<Data> extends Reading<Data> {
  #pipe: Pipe | null = null;
  #ended = false;

  /**
   * Sends everything that arrives from now on to `target`, in order with what else is written to
   * it, and ends it behind the last byte when the peer ends. Resolves with the number of bytes when
   * all of them were sent; rejects with "EPIPE" if the target takes no more and then closes this
   * socket, with what broke this socket and then resets the target. No `data` handler is called
   * meanwhile. Both sockets must be open and of one ring. From here on the FIN of the target's peer
   * no longer ends the target: the pipe does. A socket may be piped to itself.
   */
  pipeTo(target: Piping<unknown>, options: PipeOptions = {}): Promise<number> {
    this.#check(target, options);
    const promise = Promise.withResolvers<number>();
    const { signal } = options;
    const reason = (): unknown => signal?.reason;
    const onAbort = () => this.#breakPipe(reason(), true, true);
    const pipe: Pipe = { target, options, promise, onAbort, early: 0, native: false };
    const { handle, loop } = this.ring;
    const outcome = native.bu_connection_forward(
      handle, this.index, this.generation, target.index, target.generation,
    );
    // Without data: the FIN is here already, and its record on the way or told.
    if (outcome < 0 && outcome !== -ERRNO.ENODATA) {
      throw resultError(outcome, "pipeTo", "the target", "submission");
    }
    pipe.native = outcome >= 0;
    this.#pipe = pipe;
    target.becomesTarget();
    this.dropUnread();
    this.release((chunk) => this.#relay(pipe, chunk));
    signal?.addEventListener("abort", onAbort, { once: true });
    this.whenGone((failure) => this.#onSourceGone(pipe, failure));
    target.whenGone(() => this.#onTargetGone(pipe));
    loop.touch();
    if (this.#ended && !pipe.native) this.#finish(pipe);
    return promise.promise;
  }

  /** @internal The peer's FIN will not end this side: a pipe into it does. */
  becomesTarget(): void {
    this.staysWritable = true;
  }

  #check(target: Piping<unknown>, options: PipeOptions): void {
    if (!(target instanceof Piping)) {
      const expected = "a socket; for a stream use `socket.readable.pipeTo`";
      throw argumentError("pipeTo", "target", expected, target);
    }
    if (typeof options !== "object" || options === null) {
      throw argumentError("pipeTo", "options", "an object", options);
    }
    for (const name of ["preventClose", "preventAbort", "preventCancel"] as const) {
      checkBoolean("pipeTo", name, options[name] ?? false);
    }
    const { signal } = options;
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw argumentError("pipeTo", "signal", "an AbortSignal", signal);
    }
    signal?.throwIfAborted();
    if (this.#pipe !== null) {
      throw new UringError("EBUSY", "pipeTo", "pipeTo: the socket is piped already");
    }
    if (target.ring !== this.ring) {
      const message = "pipeTo: the sockets are of two rings; use `readable.pipeTo(writable)`";
      throw new UringError("EXDEV", "pipeTo", message);
    }
    this.assertUnread("pipeTo");
    if (this.stage === "connecting" || this.stage === "closed") {
      throw new UringError("ENOTCONN", "pipeTo", `pipeTo: the socket is ${this.stage}`);
    }
    if (target.stage !== "open") {
      throw new UringError("EPIPE", "pipeTo", `pipeTo: the target is ${target.stage}`);
    }
  }

  /** Bytes that JavaScript has got: behind everything that was written before, whole. */
  #relay(pipe: Pipe, bytes: Uint8Array): void {
    if (this.#pipe !== pipe) return;
    try {
      pipe.target.send(bytes); // what goes wrong later is told by the target's end
      pipe.early += bytes.byteLength;
    } catch (error) {
      this.#breakPipe(error, false, true);
    }
  }

  /** @internal What arrived in the turn in which the pipe was made is relayed. */
  override onData(offset: number, length: number, buffer: number): HandlerResult {
    const pipe = this.#pipe;
    if (pipe === null) return super.onData(offset, length, buffer);
    this.dropUnread();
    this.#relay(pipe, this.ring.memory.copyBytes(offset, length));
    return undefined;
  }

  /** @internal The library has forwarded all that there will be, or the target is lost. */
  onForwarded(result: number): HandlerResult {
    const pipe = this.#pipe;
    if (pipe === null) return undefined;
    if (result < 0) {
      this.#breakPipe(this.#lost(pipe, result), false, true);
      return undefined;
    }
    return this.onEnd();
  }

  /** @internal */
  override onEnd(): HandlerResult {
    this.#ended = true;
    if (this.#pipe !== null) this.#finish(this.#pipe);
    return super.onEnd();
  }

  #finish(pipe: Pipe): void {
    const bytes = this.#leavePipe(pipe);
    if (!pipe.options.preventClose) pipe.target.end();
    pipe.promise.resolve(bytes);
  }

  /** Ends it before its end; `abort` the target, `cancel` the source, unless that is prevented. */
  #breakPipe(error: unknown, abort: boolean, cancel: boolean): void {
    const pipe = this.#pipe;
    if (pipe === null) return;
    this.#leavePipe(pipe);
    if (abort && !pipe.options.preventAbort) pipe.target.terminate();
    if (cancel && !pipe.options.preventCancel) this.close();
    pipe.promise.reject(error);
  }

  /** The number of bytes so far. */
  #leavePipe(pipe: Pipe): number {
    this.#pipe = null;
    pipe.options.signal?.removeEventListener("abort", pipe.onAbort);
    const { handle } = this.ring;
    const sent = native.bu_connection_forwarded(handle, this.index, this.generation);
    if (pipe.native && this.stage !== "closed") {
      native.bu_connection_forward(handle, this.index, this.generation, 0, 0);
    }
    return pipe.early + Math.max(sent, 0);
  }

  #onSourceGone(pipe: Pipe, failure: Error | undefined): void {
    if (this.#pipe !== pipe) return;
    const closed = new UringError("ECANCELED", "pipeTo", "pipeTo: the source was closed");
    this.#breakPipe(failure ?? closed, true, false);
  }

  #onTargetGone(pipe: Pipe): void {
    if (this.#pipe === pipe) this.#breakPipe(this.#lost(pipe, -ERRNO.EPIPE), false, true);
  }

  #lost(pipe: Pipe, result: number): UringError {
    const error = resultError(result, "pipeTo", "the target takes no more", "completion");
    if (pipe.target.reason !== undefined) error.cause = pipe.target.reason;
    return error;
  }
}

/**
 * Joins two sockets: what either receives is sent by the other, each direction ends by itself.
 * Resolves with the bytes of both ways when both have ended; if one breaks, both sockets end, and
 * it rejects with the first reason.
 */
export async function proxy(
  a: Piping<unknown>,
  b: Piping<unknown>,
  options: PipeOptions = {},
): Promise<{ sent: number; received: number }> {
  const both = [["a", a], ["b", b]] as const;
  for (const [name, socket] of both) {
    if (!(socket instanceof Piping)) throw argumentError("proxy", name, "a socket", socket);
  }
  // Before either is read: an end that is here already must not end the way back.
  for (const [, socket] of both) socket.becomesTarget();
  const sending = a.pipeTo(b, options);
  let receiving: Promise<number>;
  try {
    receiving = b.pipeTo(a, options);
  } catch (error) {
    // The error that is thrown says it.
    sending.catch(() => {});
    a.terminate();
    throw error;
  }
  // The first reason is told.
  receiving.catch(() => {});
  const [sent, received] = await Promise.all([sending, receiving]);
  return { sent, received };
}
