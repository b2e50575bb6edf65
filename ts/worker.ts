// RingWorker: a long-lived Worker beside a ring, as the ring's thread sees it.
//
//     Worker: message ─▶ queue (shared memory), then a post ─▶ turn of the ring ─▶ `message`
//     running ──stop──▶ stopping ──its function returns──▶ exited
//         └── throws, ends its process, or is terminated ──▶ exited
//
// It ends when its function does; `stop` only asks. Messages arrive before the `exit` event, all
// of them, also those of a Worker that died. The other half is worker_context.ts.

import { deserialize } from "bun:jsc";
import { NativeBlock } from "./block.ts";
import { reviveError, type DescribedError } from "./described_error.ts";
import type { Engine } from "./engine.ts";
import { argumentError, codeOf, reportUncaught, UringError } from "./errors.ts";
import { native } from "./native.ts";
import type { PostBox, PostData, PostSubscription } from "./post.ts";
import { readModule } from "./worker_module.ts";
import {
  ByteQueue,
  createQueue,
  putMessage,
  readQueueOptions,
  type QueueOptions,
  type QueueShape,
  type QueueStats,
} from "./worker_queue.ts";

/** How a Worker came to its end. */
export interface WorkerExit {
  /** Its function returned or threw; or it ended otherwise: terminated, `process.exit`. */
  readonly reason: "returned" | "threw" | "ended";
  /** What it threw, else null. */
  readonly error: Error | null;
}

export interface WorkerOptions {
  /** Cloned, for the function. */
  data?: unknown;
  /** The queue of its messages. */
  queue?: QueueOptions;
  /** The queue of messages to it. */
  inbox?: QueueOptions;
  /** The key of its posts. Default: a free one, from 0xffff_fffe down. */
  key?: number;
  /** Told of each message. A promise that it returns is not waited for. */
  message?: (bytes: Uint8Array<ArrayBuffer>, worker: RingWorker) => unknown;
  /** Told once, behind the last message. */
  exit?: (exit: WorkerExit, worker: RingWorker) => unknown;
}

/** What goes to the Worker. */
export interface Employment {
  readonly module: string;
  readonly data: unknown;
  readonly token: number;
  readonly key: number;
  readonly outbox: QueueShape;
  readonly inbox: QueueShape;
  /** The first word is set when it should stop. */
  readonly stop: Int32Array;
}

export type Instruction = Employment | "stop";

/** What its posts say: a number below, or a block with an error. */
export const MESSAGE = 0;
export const ENDED = 1;
/** By this side: the thread is gone. */
const GONE = 2;

const program = new URL("./worker_program.ts", import.meta.url).href;

export class RingWorker implements AsyncDisposable {
  /** The key of its posts. */
  readonly key: number;
  readonly #engine: Engine;
  readonly #box: PostBox;
  readonly #options: WorkerOptions;
  readonly #posts: PostSubscription;
  readonly #queue: ByteQueue;
  readonly #inbox: ByteQueue;
  readonly #stop = new Int32Array(new SharedArrayBuffer(8));
  readonly #worker: Worker;
  readonly #onGone: (worker: RingWorker) => void;
  readonly #gone = Promise.withResolvers<void>();
  #state: "running" | "stopping" | "exited" = "running";
  #told = false;
  #keepsAlive = true;
  /** What it died of, as far as Bun says. */
  #cause: Error | null = null;

  /** @internal Workers come from `ring.worker`. */
  constructor(
    engine: Engine,
    box: PostBox,
    module: unknown,
    options: WorkerOptions,
    onGone: (worker: RingWorker) => void,
  ) {
    const url = readModule("worker", module);
    checkHandlers(options);
    const outbox = readQueueOptions("worker", options.queue ?? {});
    const inbox = readQueueOptions("worker", options.inbox ?? {});
    const token = native.bu_ring_token(engine.handle);
    if (token < 0) {
      throw new UringError(codeOf(token), "worker", "worker: the ring has no mailbox to post to");
    }
    this.#engine = engine;
    this.#box = box;
    this.#options = options;
    this.#onGone = onGone;
    const shapes = { outbox: createQueue(outbox), inbox: createQueue(inbox) };
    this.#posts = box.subscribeFree(options.key, (data) => this.#posted(data));
    this.key = this.#posts.from;
    this.#queue = new ByteQueue(shapes.outbox);
    this.#inbox = new ByteQueue(shapes.inbox);
    this.#worker = new Worker(program);
    engine.opened(true);
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#cause ??= event.error instanceof Error ? event.error : new Error(event.message);
    });
    this.#worker.addEventListener("close", () => this.#closed());
    const { data } = options;
    this.#employ({ module: url, data, token, key: this.key, stop: this.#stop, ...shapes });
  }

  #employ(employment: Employment): void {
    try {
      this.#worker.postMessage(employment);
    } catch (error) {
      this.#worker.terminate(); // what cannot be cloned
      throw error;
    }
  }

  get state(): "running" | "stopping" | "exited" {
    return this.#state;
  }

  /**
   * Puts a message into the Worker's inbox, for its `receive`. "EAGAIN": it is full and does not
   * drop; "EMSGSIZE": the message is too long; "ESHUTDOWN": the Worker has exited.
   */
  post(message: Uint8Array | string): void {
    if (this.#state === "exited") {
      throw new UringError("ESHUTDOWN", "post", "post: the Worker has exited");
    }
    putMessage(this.#inbox, message);
  }

  /** Asks it to return: `shouldStop` is true there, and what it waits in ends. */
  stop(): void {
    if (this.#state !== "running") return;
    this.#state = "stopping";
    Atomics.store(this.#stop, 0, 1);
    Atomics.notify(this.#stop, 0);
    this.#inbox.signal();
    this.#worker.postMessage("stop");
  }

  /** Resolves with true when its thread is gone, with false after so many milliseconds. */
  join(milliseconds = -1): Promise<boolean> {
    if (typeof milliseconds !== "number" || Number.isNaN(milliseconds)) {
      throw argumentError("join", "milliseconds", "a number, below 0 for ever", milliseconds);
    }
    const gone = this.#gone.promise.then(() => true);
    if (milliseconds < 0) return gone;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), milliseconds);
    gone.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
    return promise;
  }

  /** Ends it wherever it is; resolves when its thread is gone. */
  terminate(): Promise<void> {
    this.#worker.terminate();
    return this.#gone.promise;
  }

  /** As `terminate`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.terminate();
  }

  /** Messages that wait here, how many there were, how many were dropped. */
  stats(): { readonly queue: QueueStats; readonly inbox: QueueStats } {
    return { queue: this.#queue.stats(), inbox: this.#inbox.stats() };
  }

  /** The process stays alive while it runs: the default. */
  ref(): void {
    this.#reference(true);
  }

  unref(): void {
    this.#reference(false);
  }

  #reference(keepsAlive: boolean): void {
    if (this.#keepsAlive === keepsAlive || this.#state === "exited") return;
    this.#keepsAlive = keepsAlive;
    this.#engine.referenced(keepsAlive ? 1 : -1);
    if (keepsAlive) this.#worker.ref();
    else this.#worker.unref();
  }

  // What its posts say -------------------------------------------------------------------------

  #posted(data: PostData): unknown {
    if (data === MESSAGE) {
      const message = this.#queue.take();
      return message === null ? undefined : this.#options.message?.(message, this); // or dropped
    }
    if (data instanceof NativeBlock) {
      using block = data;
      const error = reviveError(deserialize(block.bytes.slice().buffer) as DescribedError);
      return this.#exit({ reason: "threw", error });
    }
    if (data === ENDED) return this.#exit({ reason: "returned", error: null });
    return this.#leave();
  }

  #exit(exit: WorkerExit): unknown {
    if (this.#told) return undefined;
    this.#told = true;
    this.#drain();
    this.#state = "exited";
    return this.#options.exit?.(exit, this);
  }

  /** Messages whose posts the Worker did not live to make. */
  #drain(): void {
    for (let message; (message = this.#queue.take()) !== null; ) {
      const bytes = message;
      this.#guard(() => this.#options.message?.(bytes, this));
    }
  }

  #guard(call: () => unknown): void {
    try {
      const outcome = call();
      if (outcome instanceof Promise) outcome.catch(reportUncaught);
    } catch (error) {
      reportUncaught(error);
    }
  }

  /** Its thread is gone: behind everything that it has posted, the ring is told. */
  #closed(): void {
    if (this.#engine.state !== "open") return this.#leave();
    try {
      this.#box.post(this.key, GONE);
    } catch (error) {
      if ((error as UringError).code !== "EAGAIN") return this.#leave();
      setImmediate(() => this.#closed()); // the mailbox is full
    }
  }

  #leave(): void {
    const error = this.#cause;
    this.#guard(() => this.#exit({ reason: error === null ? "ended" : "threw", error }));
    this.#posts.remove();
    this.#engine.gone(this.#keepsAlive);
    this.#onGone(this);
    this.#gone.resolve();
  }
}

function checkHandlers(options: unknown): void {
  if (typeof options !== "object" || options === null) {
    throw argumentError("worker", "options", "an object", options);
  }
  for (const name of ["message", "exit"] as const) {
    const handler = (options as Record<string, unknown>)[name];
    if (handler === undefined || typeof handler === "function") continue;
    throw argumentError("worker", name, "a function", handler);
  }
}
