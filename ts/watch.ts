// Watch: a descriptor's readiness, told at each change until it is removed.
//
// A multishot poll. `modify` and `remove` cancel it; what it still had to say is dropped. When the
// kernel ends it by itself (its queue overflowed), it is armed again.

import { ERRNO } from "./abi.ts";
import { argumentError } from "./errors.ts";
import type { Operation } from "./operation.ts";
import { POLL, readEvents, type ControlOperations, type PollEvents } from "./operation/control.ts";

export interface WatchEvent<Context> {
  fd: number;
  context: Context;
  readable: boolean;
  writable: boolean;
  /** POLLERR, or the watch itself failed: `result` is its negative errno then. */
  error: boolean;
  hangUp: boolean;
  result: number;
}

export type WatchHandler<Context> = (event: WatchEvent<Context>) => void;

export class Watch<Context> implements Disposable {
  readonly fd: number;
  readonly context: Context;
  readonly #ring: ControlOperations;
  readonly #handler: WatchHandler<Context>;
  #events: number;
  #operation: Operation | null = null;
  #removed = false;

  /** @internal Watches come from `Ring.watch`. */
  constructor(
    ring: ControlOperations,
    fd: number,
    events: PollEvents,
    context: Context,
    handler: WatchHandler<Context>,
  ) {
    if (typeof handler !== "function") {
      throw argumentError("watch", "handler", "a function", handler);
    }
    this.#ring = ring;
    this.fd = fd;
    this.context = context;
    this.#handler = handler;
    this.#events = readEvents("watch", events);
    this.#arm();
  }

  /** Until `remove`, the end of the ring, or an error. */
  get active(): boolean {
    return !this.#removed;
  }

  /** Other events from now on. Throws "ESHUTDOWN" if the ring is closed. */
  modify(events: PollEvents): void {
    const bits = readEvents("modify", events);
    this.#ring.assertOpen("modify");
    if (this.#removed) return;
    this.#events = bits;
    this.#disarm();
    this.#arm();
  }

  /** Ends it; the descriptor stays open. */
  remove(): void {
    if (this.#removed) return;
    this.#removed = true;
    this.#disarm();
  }

  [Symbol.dispose](): void {
    this.remove();
  }

  #disarm(): void {
    const operation = this.#operation;
    this.#operation = null;
    operation?.cancel();
  }

  #arm(): void {
    // The first record comes in a later turn, so `operation` is set by then.
    const operation: Operation = this.#ring.poll(
      this.fd,
      this.#events,
      { multishot: true },
      (result) => this.#onChange(operation, result),
    );
    this.#operation = operation;
  }

  #onChange(operation: Operation, result: number): void {
    if (this.#operation !== operation) return;
    if (!operation.pending) this.#operation = null;
    if (result < 0) {
      this.#removed = true;
      if (result === -ERRNO.ECANCELED) return; // the ring is closing
    } else if (!operation.pending) {
      this.#arm();
    }
    this.#handler({
      fd: this.fd,
      context: this.context,
      readable: result > 0 && (result & POLL.in) !== 0,
      writable: result > 0 && (result & POLL.out) !== 0,
      error: result < 0 || (result & POLL.err) !== 0,
      hangUp: result > 0 && (result & (POLL.hup | POLL.rdhup)) !== 0,
      result,
    });
  }
}
