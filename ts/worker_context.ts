// WorkerContext: what the function of a Worker of `ring.worker` is given to talk to the ring.
//
// A message goes into the queue first, then a post tells of it. The end is a post, too, behind all
// messages: so it arrives in a turn of the ring, also of one that blocks.

import { serialize } from "bun:jsc";
import { NativeBlock } from "./block.ts";
import type { UringError } from "./errors.ts";
import { Poster, type PostData } from "./post.ts";
import { ENDED, MESSAGE, type Employment } from "./worker.ts";
import { ByteQueue, putMessage } from "./worker_queue.ts";

/** Between two tries to post into a full mailbox, milliseconds. */
const RETRY_MS = 1;

/** What the function of a Worker is called with. */
export class WorkerContext {
  /** The option `data`, cloned. */
  readonly data: unknown;
  /** Resolves when it should stop; for Workers that await. */
  readonly stopping: Promise<void>;
  readonly #outbox: ByteQueue;
  readonly #inbox: ByteQueue;
  readonly #stop: Int32Array;
  readonly #poster: Poster;
  readonly #key: number;

  /** @internal */
  constructor(employment: Employment, stopping: Promise<void>) {
    this.data = employment.data;
    this.stopping = stopping;
    this.#outbox = new ByteQueue(employment.outbox);
    this.#inbox = new ByteQueue(employment.inbox);
    this.#stop = employment.stop;
    this.#poster = new Poster(employment.token);
    this.#key = employment.key;
  }

  /** `stop` was called: return soon. */
  get shouldStop(): boolean {
    return Atomics.load(this.#stop, 0) !== 0;
  }

  /**
   * Puts a message into the ring's queue and posts it. "EAGAIN": the queue is full and does not
   * drop; "EMSGSIZE": it is too long; "ESHUTDOWN": the ring is gone.
   */
  post(message: Uint8Array | string): void {
    putMessage(this.#outbox, message);
    this.#tell(MESSAGE);
  }

  /** The next message from the ring's thread; null when it should stop or the time is up. */
  receive(milliseconds = Number.POSITIVE_INFINITY): Uint8Array<ArrayBuffer> | null {
    const deadline = performance.now() + milliseconds;
    for (;;) {
      const seen = this.#inbox.signals;
      const message = this.#inbox.take();
      if (message !== null || this.shouldStop) return message;
      const left = deadline - performance.now();
      if (left <= 0) return null;
      this.#inbox.wait(seen, left);
    }
  }

  /** Blocks for so long, or until it should stop: then true. */
  sleep(milliseconds: number): boolean {
    Atomics.wait(this.#stop, 0, 0, milliseconds);
    return this.shouldStop;
  }

  /** @internal How it ended: null, or an error, described. */
  end(failure: unknown): void {
    this.#tell(failure === null ? ENDED : new NativeBlock(new Uint8Array(serialize(failure))));
  }

  /** What is queued must be told of: a mailbox that is full is tried again. */
  #tell(data: PostData): void {
    for (;;) {
      try {
        return this.#poster.post(this.#key, data);
      } catch (error) {
        if ((error as UringError).code !== "EAGAIN") throw error;
      }
      Atomics.wait(this.#stop, 1, 0, RETRY_MS);
    }
  }
}
