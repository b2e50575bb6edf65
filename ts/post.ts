// Posts: numbers and blocks from any thread into a ring, its tokens, and who is told of them.
//
// `Token` names a ring in other threads, `Poster` is what `Ring.open` makes of it there, `PostBox`
// is the receiving side, one per ring. A post is a record like any completion and comes in the same
// turn: `completion.ts` hands it over. Nothing is merged or lost; a full mailbox refuses.

import type { HandlerResult, PostReceiver } from "./completion.ts";
import { NativeBlock } from "./block.ts";
import type { Engine } from "./engine.ts";
import { argumentError, codeOf, UringError, type ErrorCode } from "./errors.ts";
import { native } from "./native.ts";

/** What a post carries: a safe integer, or a block, which moves to the receiver. */
export type PostData = number | NativeBlock;

/** Told of a post: what was posted, and its key. A promise that it returns is not waited for. */
export type PostHandler<Data extends PostData = PostData> = (data: Data, key: number) => unknown;

/** A key, or the first and the last of a range. */
export type PostKeys = number | readonly [from: number, to: number];

const KEY_MAX = 0xffff_ffff;

const SENTENCES: Partial<Record<ErrorCode, string>> = {
  EAGAIN: "the ring's mailbox is full; post again later, or open the ring with more `posts`",
  ESHUTDOWN: "the ring is closed",
  EINVAL: "the data does not fit a post",
  EMFILE: "too many open files, or too many rings that are posted to",
  EOPNOTSUPP: "the features `doorbell` and `msg_ring` are both missing",
};

function postError(outcome: number, operation: string): UringError {
  const code = codeOf(outcome);
  const sentence = SENTENCES[code] ?? "it was refused";
  return new UringError(code, operation, `${operation}: ${sentence}`);
}

function checkKey(operation: string, name: string, key: unknown): number {
  if (typeof key === "number" && key >>> 0 === key) return key;
  throw argumentError(operation, name, `an integer from 0 to ${KEY_MAX}`, key);
}

function post(token: number, key: number, data: PostData): void {
  checkKey("post", "key", key);
  let outcome: number;
  if (Number.isSafeInteger(data)) {
    outcome = native.bu_post(token, key, data as number);
  } else if (data instanceof NativeBlock) {
    outcome = data.hand("post", (address) => native.bu_post_block(token, key, address));
  } else {
    throw argumentError("post", "data", "a safe integer or a NativeBlock", data);
  }
  if (outcome < 0) throw postError(outcome, "post");
}

/**
 * Names a ring in other threads: goes through `postMessage`, and `id` alone does as well, also to
 * native code (`bu_post`). From the first look at `ring.token` on it keeps the process alive, until
 * the ring is closed or it is unref'ed.
 */
export class Token {
  /** A positive integer below 2^31; a ring that is gone does not get it back. */
  readonly id: number;
  readonly #engine: Engine;
  #referenced = true;

  /** @internal Tokens come from `Ring.token`. */
  constructor(engine: Engine, id: number) {
    this.#engine = engine;
    this.id = id;
    engine.opened(true);
  }

  /** Keeps the process alive, as it does from the start. */
  ref(): this {
    if (!this.#referenced) this.#engine.referenced(1);
    this.#referenced = true;
    return this;
  }

  /** The process may end while others could still post. */
  unref(): this {
    if (this.#referenced) this.#engine.referenced(-1);
    this.#referenced = false;
    return this;
  }
}

/** A ring of another thread, or of this one, to post to. */
export class Poster implements Disposable {
  #token: number;

  /** @internal Posters come from `Ring.open`. */
  constructor(token: unknown) {
    const id = typeof token === "object" && token !== null ? (token as Token).id : token;
    if (typeof id !== "number" || !Number.isInteger(id) || id <= 0 || id >= 2 ** 31) {
      throw argumentError("Ring.open", "token", "the token of a ring", token);
    }
    const outcome = native.bu_token_check(id);
    if (outcome < 0) throw postError(outcome, "Ring.open");
    this.#token = id;
  }

  /**
   * Hands over a number or a block; it never blocks. "EAGAIN": the mailbox is full, and nothing was
   * taken. "ESHUTDOWN": the ring is closed. A block belongs to the receiver afterwards.
   */
  post(key: number, data: PostData): void {
    post(this.#open("post"), key, data);
  }

  /** Makes the ring's `wait` return; it is no event. One that waits later returns at once. */
  wakeup(): void {
    const outcome = native.bu_wakeup(this.#open("wakeup"));
    if (outcome < 0) throw postError(outcome, "wakeup");
  }

  /** Ends the ring's `run` after what is ready, as its own `stop` does. */
  stop(): void {
    const outcome = native.bu_stop(this.#open("stop"));
    if (outcome < 0) throw postError(outcome, "stop");
  }

  /** Ends the use of this object; the ring goes on. */
  [Symbol.dispose](): void {
    this.#token = 0;
  }

  #open(operation: string): number {
    if (this.#token !== 0) return this.#token;
    throw new UringError("ESHUTDOWN", operation, `${operation}: this poster was disposed of`);
  }
}

/** A handler of posts, until it is removed. */
export class PostSubscription implements Disposable {
  readonly from: number;
  readonly to: number;
  /** @internal */ readonly handler: PostHandler;
  readonly #box: PostBox;

  /** @internal Subscriptions come from `Ring.onPost`. */
  constructor(box: PostBox, from: number, to: number, handler: PostHandler) {
    this.#box = box;
    this.from = from;
    this.to = to;
    this.handler = handler;
  }

  /** No post is told from here on. */
  remove(): void {
    this.#box.remove(this);
  }

  [Symbol.dispose](): void {
    this.remove();
  }
}

/** The receiving side: tokens, handlers, and posts that have none. */
export class PostBox implements PostReceiver {
  /** Posts whose key had no handler. */
  unhandled = 0;
  readonly #engine: Engine;
  #token: Token | null = null;
  readonly #exact = new Map<number, PostSubscription>();
  /** Narrow ones first. */
  readonly #ranges: PostSubscription[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  get token(): Token {
    this.#token ??= new Token(this.#engine, this.#id("token"));
    return this.#token;
  }

  #id(operation: string): number {
    const id = native.bu_ring_token(this.#engine.handle);
    if (id < 0) throw postError(id, operation);
    return id;
  }

  /** From the ring's own thread. */
  post(key: number, data: PostData): void {
    post(this.#id("post"), key, data);
    this.#engine.posted = true;
    this.#engine.loop.launched();
  }

  subscribe(keys: PostKeys, handler: PostHandler): PostSubscription {
    const isRange = Array.isArray(keys);
    const from = checkKey("onPost", "key", isRange ? keys[0] : keys);
    const to = isRange ? checkKey("onPost", "the last key", keys[1]) : from;
    if (to < from) throw argumentError("onPost", "the last key", `${from} or more`, to);
    if (typeof handler !== "function") {
      throw argumentError("onPost", "handler", "a function", handler);
    }
    const subscription = new PostSubscription(this, from, to, handler);
    if (from === to) this.#addExact(subscription);
    else this.#addRange(subscription);
    return subscription;
  }

  /** With this key, or a free one from the upper end. */
  subscribeFree(key: number | undefined, handler: PostHandler): PostSubscription {
    let free = KEY_MAX - 1; // the last is what `serve` hands connections over with
    while (this.#exact.has(free)) free--;
    return this.subscribe(key ?? free, handler);
  }

  #addExact(subscription: PostSubscription): void {
    if (this.#exact.has(subscription.from)) throw taken(subscription);
    this.#exact.set(subscription.from, subscription);
  }

  #addRange(subscription: PostSubscription): void {
    const { from, to } = subscription;
    if (this.#ranges.some((other) => other.from === from && other.to === to)) {
      throw taken(subscription);
    }
    const wider = this.#ranges.findIndex((other) => other.to - other.from > to - from);
    this.#ranges.splice(wider < 0 ? this.#ranges.length : wider, 0, subscription);
  }

  remove(subscription: PostSubscription): void {
    if (this.#exact.get(subscription.from) === subscription) {
      this.#exact.delete(subscription.from);
      return;
    }
    const at = this.#ranges.indexOf(subscription);
    if (at >= 0) this.#ranges.splice(at, 1);
  }

  onPost(key: number, data: number, isBlock: boolean): HandlerResult {
    const subscription = this.#exact.get(key) ??
      this.#ranges.find(({ from, to }) => from <= key && key <= to);
    if (subscription === undefined) return this.#onUnhandled(key);
    const value = isBlock ? NativeBlock.delivered(this.#engine.handle, data) : data;
    return subscription.handler(value, key);
  }

  /** A block of such a post is freed by the library. */
  #onUnhandled(key: number): void {
    if (this.unhandled++ > 0) return;
    const rest = "it and those after it are counted in stats().posts_unhandled";
    this.#engine.log(`bun-uring: a post with key ${key} has no handler; ${rest}`);
  }
}

function taken({ from, to }: PostSubscription): UringError {
  const keys = from === to ? `key ${from}` : `the range from ${from} to ${to}`;
  const message = `onPost: ${keys} has a handler; remove that one first`;
  return new UringError("EEXIST", "onPost", message);
}
