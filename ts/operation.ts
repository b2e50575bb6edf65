// Operation: the handle of one operation, from its submission to its outcome; how one is started.
//
// Steps 2 and 12 of the straight line. A handle is awaitable, and a promise is made only for who
// awaits; with a callback none is. The outcome comes from the operation's own completion alone:
// `cancel` asks, and success wins. Memory travels as `Cargo` and lands before anybody is told.

import { ARGUMENTS_WORDS, ERRNO, OperationKind, OperationOption } from "./abi.ts";
import type { OperationReceiver } from "./completion.ts";
import type { Engine } from "./engine.ts";
import {
  argumentError,
  completionError,
  submissionError,
  type UringError,
} from "./errors.ts";
import { forgotten, reclaim, type Made } from "./made.ts";
import { native } from "./native.ts";
import { Reaction, type Chained, type Observer } from "./reaction.ts";
import type { OperationName } from "./ring_options.ts";

/** What every operation takes. */
export interface OperationOptions {
  /** Cancels the operation; one that is aborted already submits nothing. */
  signal?: AbortSignal | undefined;
  /** Milliseconds until the operation is given up with ETIMEDOUT, by the kernel itself. */
  timeout?: number | undefined;
}

/** The callback form: the result or `-errno`, and what `detail` says at each operation. */
export type Callback<Detail = undefined> = (result: number, detail: Detail) => void;

/** What travels with an operation: memory that the kernel reads or writes, or its answer. */
export interface Cargo<T> {
  /** Copied by the library in the call: data, paths, addresses, vectors. */
  readonly input: Uint8Array | Float64Array | null;
  /** What is handed back on success and on error. */
  readonly buffer: unknown;
  /** Descriptors that came with it, in place of the result. */
  readonly descriptors?: readonly number[];
  /** Bytes that were sent all the same, for the error. */
  readonly sent?: number;
  /** Takes the memory and writes its arguments; throws what forbids it. */
  board(engine: Engine, kind: string, fd: number): void;
  /** The last completion is in, or nothing was submitted (`index` -1): all is given back. */
  land(engine: Engine, index: number, result: number): number;
  /** The kernel may have the memory for ever: it must not be freed. */
  orphan(): void;
  /** What the promise yields. */
  value(result: number): T;
  /** The callback's second argument. */
  detail(result: number): unknown;
}

/** Bits of a handle's state. */
type State = number;
const PENDING = 1;
const ASKED = 2;
const LIMITED = 4;
const UNREFED = 8;

const NAMES = Object.keys(OperationKind) as OperationName[];
const TIMEOUT_MAX_MS = 2_147_483_647;
const WORDS = ARGUMENTS_WORDS;

/** Names that a fixed form shares with the plain one, as in messages. */
const SHOWN: Partial<Record<OperationName, string>> = {
  read_fixed: "read",
  write_fixed: "write",
  sync_file_range: "syncFileRange",
};

/** A chain of sends in a connection's queue, which is no kind of the library's. */
export const CHAIN_KIND = NAMES.length as OperationKind;

function nameOf(kind: number): string {
  if (kind === CHAIN_KIND) return "chain";
  const name = NAMES[kind] as OperationName;
  return SHOWN[name] ?? name;
}

/** What only few operations have: not a field of each. */
interface Rare {
  made: Made | null;
  disposed: boolean;
  signal: AbortSignal | null;
  onAbort: (() => void) | null;
  onLanded: (() => void)[];
}

export class Operation<T = number>
  implements PromiseLike<T>, OperationReceiver, Disposable, AsyncDisposable {
  /** Whatever the user keeps with the operation. */
  userData: unknown;
  /** The descriptor it works on, -1 if it has none. */
  readonly fd: number;
  /** @internal */ readonly generation: number;
  /** @internal When it was submitted: performance.now, exact to a turn. */ readonly since: number;
  readonly #engine: Engine;
  readonly #index: number;
  readonly #kind: number;
  readonly #cargo: Cargo<T> | null;
  readonly #callback: Callback<never> | undefined;
  #result: number;
  #state: State;
  /** Who awaits it. */
  #reaction: Observer<never> | null;
  #rare: Rare | null;

  /** @internal Operations come from the methods of a ring; `index` -1: nothing is submitted. */
  constructor(
    engine: Engine,
    index: number,
    kind: number,
    fd: number,
    cargo: Cargo<T> | null,
    callback: Callback<never> | undefined,
  ) {
    this.#engine = engine;
    this.#index = index;
    this.#kind = kind;
    this.#cargo = cargo;
    this.#callback = callback;
    this.#result = 0;
    this.#state = index >= 0 ? PENDING : 0;
    this.#reaction = null;
    this.#rare = null;
    this.userData = undefined;
    this.fd = fd;
    this.generation = index < 0 ? 0 : engine.claimedGeneration();
    if (index >= 0) engine.launched(this as Operation<unknown>, index);
    this.since = engine.stamp;
  }

  /** In flight: false from the start of its callback on. */
  get pending(): boolean {
    return (this.#state & PENDING) !== 0;
  }

  /** The operation's name: "read". */
  get kind(): string {
    return nameOf(this.#kind);
  }

  /**
   * Asks the kernel to cancel. False if it is over, or was asked already. The outcome comes as
   * ever: ECANCELED, or success if that was faster.
   */
  cancel(): boolean {
    if (!this.pending) return false;
    const { handle, loop } = this.#engine;
    if (native.bu_cancel(handle, this.#index, this.generation) < 0) return false;
    this.#state |= ASKED;
    loop.touch();
    return true;
  }

  /** @internal Its cancellation was asked for. */
  get asked(): boolean {
    return (this.#state & ASKED) !== 0;
  }

  /** Keeps the process alive until it is over, which is the default. */
  ref(): this {
    if (!this.hasRef() && this.pending) this.#engine.referenced(1);
    this.#state &= ~UNREFED;
    return this;
  }

  /** The process may end before it is over. */
  unref(): this {
    if (this.hasRef() && this.pending) this.#engine.referenced(-1);
    this.#state |= UNREFED;
    return this;
  }

  hasRef(): boolean {
    return (this.#state & UNREFED) === 0;
  }

  [Symbol.dispose](): void {
    this.#extra().disposed = true;
    if (this.pending) this.cancel();
    else this.#reclaimUnwanted();
  }

  /** Cancels and waits for the last completion: then nothing of it is in the kernel. */
  [Symbol.asyncDispose](): Promise<void> {
    this[Symbol.dispose]();
    return this.landed();
  }

  /** @internal Resolves when the last completion is in, whatever it says. */
  landed(): Promise<void> {
    if (!this.pending) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#extra().onLanded.push(resolve);
    return promise;
  }

  #extra(): Rare {
    this.#rare ??= { made: null, disposed: false, signal: null, onAbort: null, onLanded: [] };
    return this.#rare;
  }

  /**
   * The outcome: the operation's value, or a `UringError` with phase "completion". Named
   * "AbortError" when it was cancelled, "TimeoutError" when its `timeout` passed.
   */
  then<A = T, B = never>(
    onFulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    onRejected?: ((error: UringError) => B | PromiseLike<B>) | null,
  ): Chained<A | B> {
    this.#take();
    if (!this.pending) return this.#settled().then(onFulfilled, onRejected);
    const earlier = this.#reaction as Observer<T> | null;
    const reaction = new Reaction<T>(onFulfilled, onRejected, earlier);
    this.#reaction = reaction;
    return reaction as unknown as Chained<A | B>;
  }

  catch<B = never>(
    onRejected?: ((error: UringError) => B | PromiseLike<B>) | null,
  ): Promise<T | B> {
    return Promise.resolve<T>(this).catch(onRejected);
  }

  finally(onFinally?: (() => void) | null): Promise<T> {
    return Promise.resolve<T>(this).finally(onFinally);
  }

  /** @internal Like `then`, without a promise; at once if the outcome is known. */
  observe(observer: Observer<T>): void {
    this.#take();
    if (!this.pending) return this.#tell(observer);
    const earlier = this.#reaction as Observer<T> | null;
    if (earlier === null) this.#reaction = observer;
    else this.then((value) => observer.fulfil(value), (error) => observer.reject(error));
  }

  /** Somebody wants what it makes. */
  #take(): void {
    const made = this.#rare?.made;
    if (made) made.taken = true;
  }

  #settled(): Promise<T> {
    if (this.#result < 0) return Promise.reject<T>(this.failure());
    return Promise.resolve(this.#value());
  }

  #value(): T {
    return this.#cargo === null ? (this.#result as T) : this.#cargo.value(this.#result);
  }

  /** @internal The error of a result below 0. */
  failure(): UringError {
    const limited = (this.#state & LIMITED) !== 0;
    const error = completionError(this.#result, this.kind, this.fd, limited);
    if (this.#cargo?.buffer !== undefined) error.buffer = this.#cargo.buffer;
    if (this.#cargo?.sent !== undefined) error.bytes = this.#cargo.sent;
    const signal = this.#rare?.signal;
    if (error.name === "AbortError" && signal?.aborted) error.cause = signal.reason;
    return error;
  }

  /** @internal The outcome as a number; meaningless while it is pending. */
  get result(): number {
    return this.#result;
  }

  /** @internal */
  onCompletion(result: number, more: boolean): void {
    if (more) {
      this.#call(result);
      return;
    }
    this.#engine.landed(this.#index, this.hasRef());
    this.#end(this.#cargo === null ? result : this.#cargo.land(this.#engine, this.#index, result));
  }

  /** @internal The ring is gone before the last completion came. */
  abandon(result: number): void {
    this.#cargo?.orphan();
    this.#engine.landed(this.#index, this.hasRef());
    this.#end(result);
  }

  /** @internal Taken back by the library before the kernel saw it. */
  withdraw(result: number): void {
    this.#cargo?.land(this.#engine, -1, result);
    this.#engine.landed(this.#index, this.hasRef());
    this.#end(result);
  }

  #end(result: number): void {
    this.#state &= ~PENDING;
    this.#result = result;
    if (this.#rare !== null) this.#endRare(this.#rare, result);
    this.#call(result);
    if (this.#reaction !== null) this.#react();
  }

  #endRare(rare: Rare, result: number): void {
    if (rare.onAbort !== null) rare.signal?.removeEventListener("abort", rare.onAbort);
    if (rare.made !== null) {
      rare.made.fds = this.#cargo?.descriptors ?? (result < 0 ? [] : [result]);
      if (rare.disposed) this.#reclaimUnwanted();
    }
    for (const resolve of rare.onLanded) resolve();
  }

  #call(result: number): void {
    if (this.#callback === undefined) return;
    const detail = this.#cargo === null ? undefined : this.#cargo.detail(result);
    (this.#callback as Callback<unknown>)(result, detail);
  }

  /** Who awaits goes on; it is not a handler of the ring's, and may turn it. */
  #react(): void {
    this.#engine.calling = false;
    const observer = this.#reaction as Observer<T> | null;
    this.#reaction = null;
    if (observer !== null) this.#tell(observer);
  }

  #tell(observer: Observer<T>): void {
    if (this.#result < 0) observer.reject(this.failure());
    else observer.fulfil(this.#value());
  }

  /** Disposed of and not awaited by anybody: the descriptor it made is nobody's. */
  #reclaimUnwanted(): void {
    const made = this.#rare?.made;
    if (made) reclaim(made);
  }

  /** @internal */
  accompany(signal: AbortSignal | undefined, timeout: number | undefined): void {
    if (timeout !== undefined) this.#state |= LIMITED;
    if (signal === undefined) return;
    const rare = this.#extra();
    rare.signal = signal;
    if (!this.pending) return;
    rare.onAbort = () => {
      this.cancel();
    };
    signal.addEventListener("abort", rare.onAbort, { once: true });
  }

  /** @internal It makes descriptors that somebody should take. */
  makesDescriptor(): this {
    if (this.#callback !== undefined) return this;
    const made = { fds: [], taken: false, engine: this.#engine };
    this.#extra().made = made;
    forgotten.register(this, made);
    return this;
  }

  /** @internal Nothing was submitted: the outcome is known, and told in a microtask. */
  stillborn(result: number): this {
    this.#result = result;
    if (this.#callback !== undefined) queueMicrotask(() => this.#call(result));
    return this;
  }
}

// Starting -------------------------------------------------------------------------------------

export const NO_OPTIONS: OperationOptions = Object.freeze({});

/** The options of a call whose last arguments are `options?, callback?`. */
export function optionsOf<O extends OperationOptions>(
  kind: string,
  options: O | Function | undefined,
): O {
  if (options === undefined || typeof options === "function") return NO_OPTIONS as O;
  if (typeof options !== "object" || options === null) {
    throw argumentError(kind, "options", "an object or a callback", options);
  }
  return options;
}

/** The options of all operations, checked; each is read once, as it may be a getter. */
export function readOptions(kind: string, options: OperationOptions): OperationOptions {
  const { signal, timeout } = options;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw argumentError(kind, "signal", "an AbortSignal", signal);
  }
  const isTimeout = typeof timeout === "number" && timeout >= 0 && timeout <= TIMEOUT_MAX_MS;
  if (timeout !== undefined && !isTimeout) {
    throw argumentError(kind, "timeout", `milliseconds from 0 to ${TIMEOUT_MAX_MS}`, timeout);
  }
  return { signal, timeout };
}

export function callbackOf(
  kind: string,
  options: unknown,
  callback: unknown,
): Callback<never> | undefined {
  const found = typeof options === "function" ? options : callback;
  if (found === undefined || typeof found === "function") {
    return found as Callback<never> | undefined;
  }
  throw argumentError(kind, "callback", "a function", found);
}

/** The connection in whose queue a send lies, by slot and generation. */
export interface Stream {
  readonly index: number;
  readonly generation: number;
}

/** Starts what the argument words say, together with `cargo` and the options of all operations. */
export function launch<T>(
  engine: Engine,
  kind: OperationKind,
  fd: number,
  cargo: Cargo<T> | null,
  options: OperationOptions,
  callback: Callback<never> | undefined,
  stream?: Stream,
): Operation<T> {
  if (options === NO_OPTIONS) return start(engine, kind, fd, cargo, callback, stream);
  const { serial } = engine.memory.arguments;
  const { signal, timeout } = readOptions(nameOf(kind), options);
  if (timeout !== undefined) engine.memory.arguments.doubles[WORDS.timeout_ms] = timeout;
  const aborted = signal?.aborted === true;
  if (engine.memory.arguments.serial !== serial) {
    // Its arguments are written over: what is there now belongs to another one.
    const expected = "values, not getters that start operations";
    throw argumentError(nameOf(kind), "options", expected, options);
  }
  if (aborted) {
    const still = new Operation<T>(engine, -1, kind, fd, cargo, callback);
    still.accompany(signal, timeout);
    return still.stillborn(-ERRNO.ECANCELED);
  }
  const operation = start(engine, kind, fd, cargo, callback, stream);
  operation.accompany(signal, timeout);
  return operation;
}

function start<T>(
  engine: Engine,
  kind: OperationKind,
  fd: number,
  cargo: Cargo<T> | null,
  callback: Callback<never> | undefined,
  stream: Stream | undefined,
): Operation<T> {
  const { integers } = engine.memory.arguments;
  integers[WORDS.options] = (integers[WORDS.options] ?? 0) | engine.linkBits;
  const { handle } = engine;
  let index: number;
  if (cargo === null) {
    index = native.bu_operation_start(handle, kind, null, 0);
  } else {
    cargo.board(engine, nameOf(kind), fd);
    const { input } = cargo;
    const length = input === null ? 0 : input.byteLength;
    index = stream === undefined
      ? native.bu_operation_start(handle, kind, input, length)
      : native.bu_connection_send(handle, stream.index, stream.generation, input, length);
  }
  if (index < 0) {
    cargo?.land(engine, -1, index);
    if (index === -ERRNO.ENOMEM) engine.loop.touch(); // what is over may leave its slot
    const error = submissionError(index, nameOf(kind), fd);
    if (cargo?.buffer !== undefined) error.buffer = cargo.buffer;
    throw error;
  }
  return new Operation<T>(engine, index, kind, fd, cargo, callback);
}

/** An operation without arguments takes no words: one short call. */
export function launchNop(engine: Engine, callback: Callback<never> | undefined): Operation {
  const index = native.bu_nop(engine.handle);
  if (index < 0) {
    engine.assertOpen("nop");
    if (index === -ERRNO.ENOMEM) engine.loop.touch();
    throw submissionError(index, "nop", -1);
  }
  return new Operation<number>(engine, index, OperationKind.nop, -1, null, callback);
}

/** Sets a bit of `Arguments.options` for the operation that is being prepared. */
export function setOption(engine: Engine, option: OperationOption): void {
  const { integers } = engine.memory.arguments;
  integers[WORDS.options] = (integers[WORDS.options] ?? 0) | (1 << option);
}
