// Registered buffers and files: the kernel knows them by place, and looks nothing up per operation.
//
//     unregistered ──register──▶ registered ──requestUnregister──▶ draining ──▶ unregistered
//                                     ▲──time-out of unregister────────┘
//
// The state is native (registration.zig). This half holds the memory alive until the kernel has
// let go of it, and gives out handles that know the registration they belong to.

import {
  REGISTERED_MAX,
  REGISTRATION_SIZE,
  REGISTRATION_WORDS,
  RegistrationState,
  Resource,
} from "./abi.ts";
import { PooledBuffer } from "./buffer.ts";
import type { Engine } from "./engine.ts";
import { argumentError, checkInteger, codeOf, UringError, type ErrorCode } from "./errors.ts";
import { addressOf } from "./memory.ts";
import { native } from "./native.ts";

/** `unregister` gives up after this long, milliseconds. */
const UNREGISTER_TIMEOUT_MS = 10_000;
/** One wait of the blocking form; native waits are bounded (I8). */
const WAIT_MAX_MS = 1000;

export interface UnregisterOptions {
  /** Milliseconds until it is given up: "ETIMEDOUT", and all stays registered. Default 10000. */
  timeout?: number;
}

/** What a place holds, and since when: a handle of an earlier content is void. */
interface Handle {
  readonly index: number;
}

const REASONS: Partial<Record<ErrorCode, string>> = {
  EEXIST: "there is a registration already; unregister it first",
  EBUSY: "the registration is draining; wait for its operations",
  ENOENT: "nothing is registered",
  EINVAL: "the place or its content does not fit",
  ENOMEM: "the kernel can pin no more memory; raise `ulimit -l`",
  EBADF: "a descriptor is not open",
  EAGAIN: "a chain or a full queue still names the place; update when that has ended",
};

/** Buffers or files of one ring; `ring.buffers`, `ring.files`. */
export abstract class Registration<Entry, H extends Handle> {
  /** @internal */ readonly engine: Engine;
  readonly #resource: Resource;
  readonly #name: string;
  /** By place; what an operation in flight has of an earlier content, it holds itself. */
  #handles: H[] = [];
  #waiting: Promise<void> | null = null;

  constructor(engine: Engine, resource: Resource, name: string) {
    this.engine = engine;
    this.#resource = resource;
    this.#name = name;
  }

  /** The two numbers of an entry for the library. */
  protected abstract words(operation: string, entry: Entry): [number, number];
  protected abstract handle(entry: Entry, index: number): H;

  get state(): keyof typeof RegistrationState {
    return this.inspect().state;
  }

  /** Places that are registered. */
  get count(): number {
    return this.inspect().count;
  }

  /** Operations that use one of them. */
  get inFlight(): number {
    return this.inspect().inFlight;
  }

  /** State, places and operations in flight, all at once. */
  inspect(): { state: keyof typeof RegistrationState; count: number; inFlight: number } {
    const out = new Uint32Array(new ArrayBuffer(REGISTRATION_SIZE));
    if (!this.engine.closed) {
      native.bu_registration_read(this.engine.handle, this.#resource, out);
    }
    const names = Object.keys(RegistrationState) as (keyof typeof RegistrationState)[];
    return {
      state: names[out[REGISTRATION_WORDS.state] ?? 0] ?? "unregistered",
      count: out[REGISTRATION_WORDS.count] ?? 0,
      inFlight: out[REGISTRATION_WORDS.in_flight] ?? 0,
    };
  }

  /**
   * Registers all entries, or none. Throws "EEXIST" while something is registered, "EBUSY" while it
   * drains. See io_uring_register(2).
   */
  register(entries: readonly Entry[]): H[] {
    this.engine.assertOpen("register");
    if (!Array.isArray(entries) || entries.length === 0 || entries.length > REGISTERED_MAX) {
      const expected = `an array of 1 to ${REGISTERED_MAX} ${this.#name}`;
      throw argumentError("register", this.#name, expected, entries);
    }
    const given = entries as readonly Entry[];
    const pairs = new Float64Array(given.flatMap((entry) => this.words("register", entry)));
    const { handle } = this.engine;
    const outcome = native.bu_registration_register(handle, this.#resource, pairs, given.length);
    if (outcome < 0) throw this.#error(outcome, "register");
    this.#handles = given.map((entry, index) => this.handle(entry, index));
    return [...this.#handles];
  }

  /**
   * Another content for one place. Operations in flight keep the old one to their end; "EAGAIN"
   * while a member of a chain, which looks it up when its turn comes, names the place.
   */
  update(index: number, entry: Entry): H {
    this.engine.assertOpen("update");
    checkInteger("update", "index", index, 0, REGISTERED_MAX - 1);
    const [first, second] = this.words("update", entry);
    const { handle } = this.engine;
    const outcome = native.bu_registration_update(handle, this.#resource, index, first, second);
    if (outcome < 0) throw this.#error(outcome, "update");
    const made = this.handle(entry, index);
    this.#handles[index] = made;
    return made;
  }

  /**
   * Takes no new operations from here on; running ones finish. True if it is over at once. Throws
   * "ENOENT" if nothing is registered.
   */
  requestUnregister(): boolean {
    this.engine.assertOpen("requestUnregister");
    const outcome = native.bu_registration_request_unregister(this.engine.handle, this.#resource);
    if (outcome < 0) throw this.#error(outcome, "requestUnregister");
    if (outcome === 0) this.#forget();
    else this.engine.drains.add(this.#onLanded);
    return outcome === 0;
  }

  /**
   * Unregisters and waits for the operations in flight. Rejects with "ETIMEDOUT" after `timeout`;
   * then everything is registered as before.
   */
  unregister(options: UnregisterOptions = {}): Promise<void> {
    const timeout = readTimeout(options);
    if (this.requestUnregister()) return Promise.resolve();
    this.#waiting ??= this.#drained(timeout);
    return this.#waiting;
  }

  #drained(timeout: number): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => finish(this.#giveUp(timeout)), timeout);
      const finish = (error: UringError | null): void => {
        clearTimeout(timer);
        this.engine.drains.delete(check);
        this.#waiting = null;
        if (error === null) resolve();
        else reject(error);
      };
      const check = (): void => {
        if (this.engine.fatalError !== null) finish(this.engine.fatalError);
        else if (this.engine.closed || this.state === "unregistered") finish(null);
      };
      this.engine.drains.add(check);
    });
  }

  /**
   * The blocking form. Inside a callback it cannot block: it only asks, as `requestUnregister`.
   * True if it is over.
   */
  unregisterSync(options: UnregisterOptions = {}): boolean {
    const timeout = readTimeout(options);
    if (this.requestUnregister()) return true;
    if (this.engine.calling) return false;
    const deadline = performance.now() + timeout;
    while (this.state === "draining") {
      if (this.engine.fatalError !== null) throw this.engine.fatalError;
      const left = deadline - performance.now();
      if (left <= 0) {
        const error = this.#giveUp(timeout);
        if (error !== null) throw error;
        return true;
      }
      this.engine.turnNow(Math.min(Math.ceil(left), WAIT_MAX_MS));
    }
    return true;
  }

  /** Back to registered, unless it has just ended. */
  #giveUp(timeout: number): UringError | null {
    const count = this.inFlight;
    if (this.engine.closed || this.state !== "draining") return null;
    native.bu_registration_keep(this.engine.handle, this.#resource);
    this.engine.drains.delete(this.#onLanded);
    const message =
      `unregister: ${count} operations still use the ${this.#name} after ${timeout} ms; ` +
      "everything stays registered";
    return new UringError("ETIMEDOUT", "unregister", message);
  }

  readonly #onLanded = (): void => {
    if (this.state !== "unregistered") return;
    this.engine.drains.delete(this.#onLanded);
    this.#forget();
  };

  #forget(): void {
    this.#handles = [];
  }

  /** @internal The handle is of the present registration, or there is none: the library knows. */
  assertCurrent(handle: H, operation: string): void {
    if (this.#handles[handle.index] === handle) return;
    this.#refuse(operation);
  }

  /** @internal And there is one. */
  assertThere(handle: H, operation: string): void {
    if (this.state === "unregistered") this.#refuse(operation);
    this.assertCurrent(handle, operation);
  }

  #refuse(operation: string): never {
    const message = `${operation}: the handle is void, its registration has ended`;
    throw new UringError("ENOENT", operation, message);
  }

  #error(outcome: number, operation: string): UringError {
    const code = codeOf(outcome);
    const reason = REASONS[code] ?? "the kernel refused";
    return new UringError(code, operation, `${operation} of ${this.#name}: ${reason}`);
  }
}

function readTimeout(options: UnregisterOptions): number {
  const timeout = options?.timeout ?? UNREGISTER_TIMEOUT_MS;
  return checkInteger("unregister", "timeout", timeout, 0, 2_147_483_647);
}

/** Memory that can be registered: native, or shared and on the main thread. */
export type RegistrableBuffer = PooledBuffer | SharedArrayBuffer;

export class BufferRegistration extends Registration<RegistrableBuffer, RegisteredBuffer> {
  constructor(engine: Engine) {
    super(engine, Resource.buffers, "buffers");
  }

  protected override words(operation: string, entry: RegistrableBuffer): [number, number] {
    if (entry instanceof PooledBuffer) {
      entry.assertHeld(operation);
      entry.assertRing(operation, this.engine);
      return [entry.address, entry.length];
    }
    const shared = entry instanceof SharedArrayBuffer && !entry.growable && entry.byteLength > 0;
    if (!shared || !Bun.isMainThread) {
      const where = Bun.isMainThread ? " or a SharedArrayBuffer" : "";
      throw argumentError(operation, "a buffer", `a pooled buffer${where}`, entry);
    }
    return [addressOf(entry), entry.byteLength];
  }

  protected override handle(entry: RegistrableBuffer, index: number): RegisteredBuffer {
    return new RegisteredBuffer(this, entry, index);
  }
}

export class FileRegistration extends Registration<number, RegisteredFile> {
  constructor(engine: Engine) {
    super(engine, Resource.files, "files");
  }

  protected override words(operation: string, entry: number): [number, number] {
    return [checkInteger(operation, "a file", entry, 0, 0x7fff_ffff), 0];
  }

  protected override handle(entry: number, index: number): RegisteredFile {
    return new RegisteredFile(this, entry, index);
  }
}

/** A registered buffer, for `read` and `write`. Void once its registration has ended. */
export class RegisteredBuffer {
  readonly index: number;
  /** @internal What loans are counted on. */ readonly memory: RegistrableBuffer;
  readonly #registration: BufferRegistration;

  /** @internal Handles come from `ring.buffers.register`. */
  constructor(registration: BufferRegistration, memory: RegistrableBuffer, index: number) {
    this.#registration = registration;
    this.memory = memory;
    this.index = index;
  }

  get length(): number {
    return this.memory instanceof PooledBuffer ? this.memory.length : this.memory.byteLength;
  }

  /** The bytes; of a pooled buffer, as `PooledBuffer.bytes` says. */
  get bytes(): Uint8Array {
    this.#registration.assertThere(this, "bytes");
    return this.memory instanceof PooledBuffer ? this.memory.bytes : new Uint8Array(this.memory);
  }

  /** @internal */
  assertRegistered(kind: string, engine: Engine): void {
    if (engine !== this.#registration.engine) {
      throw new UringError("EINVAL", kind, `${kind}: the buffer is another ring's`);
    }
    this.#registration.assertCurrent(this, kind);
  }

  /** @internal */
  board(kind: string, fd: number): void {
    if (!(this.memory instanceof PooledBuffer)) return;
    this.memory.assertHeld(kind);
    this.memory.board(kind, fd);
  }

  /** @internal */
  land(): void {
    if (this.memory instanceof PooledBuffer) this.memory.land(false);
  }
}

/** A registered file, in place of a descriptor. Void once its registration has ended. */
export class RegisteredFile {
  readonly index: number;
  /** The descriptor that was registered; it stays its owner's. */
  readonly fd: number;
  readonly #registration: FileRegistration;

  /** @internal Handles come from `ring.files.register`. */
  constructor(registration: FileRegistration, fd: number, index: number) {
    this.#registration = registration;
    this.fd = fd;
    this.index = index;
  }

  /** @internal */
  assertRegistered(kind: string, engine: Engine): void {
    if (engine !== this.#registration.engine) {
      throw new UringError("EINVAL", kind, `${kind}: the file is another ring's`);
    }
    this.#registration.assertCurrent(this, kind);
  }
}
