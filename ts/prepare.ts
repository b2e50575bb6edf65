// prepare: operations put together step by step, of which the type checker knows what is missing.
//
// `submit` exists, for the type checker, only when file and buffer are set; submitting consumes the
// builder, and a second submit throws. The result is reached through the settled operation alone.
// `ring.link` and `ring.batch` take prepared operations.

import type { Source, Target, Transferred } from "./cargo.ts";
import { argumentError, UringError } from "./errors.ts";
import type { Operation } from "./operation.ts";
import type { File } from "./operation/control.ts";
import type { OpenOptions, Path, PathOptions, RenameOptions } from "./operation/path.ts";
import type { Message } from "./message.ts";
import type { Accepted, SendMessageOptions, SocketAddress } from "./operation/socket.ts";
import type { FileStatus } from "./statx.ts";
import type { Ring } from "./ring.ts";

/** What a builder can still need. */
export type Part = "file" | "buffer";

interface Kinds {
  nop: number;
  timeout: number;
  read: Transferred<Target>;
  write: Transferred<Source>;
  send: Transferred<Source>;
  recv: Transferred<Target>;
  readv: Transferred<readonly Target[]>;
  writev: Transferred<readonly Source[]>;
  sendmsg: Transferred<readonly Source[]>;
  recvmsg: Message<Target>;
  fsync: number;
  datasync: number;
  ftruncate: number;
  fallocate: number;
  syncFileRange: number;
  close: number;
  shutdown: number;
  poll: number;
  listen: number;
  bind: number;
  connect: number;
  accept: Accepted;
  openat: number;
  statx: FileStatus;
  unlink: number;
  mkdir: number;
  rename: number;
  link: number;
  symlink: number;
  socket: number;
  splice: number;
}
export type PreparedKind = keyof Kinds;

interface Buffers {
  read: Target;
  recv: Target;
  write: Source;
  send: Source;
  readv: readonly Target[];
  recvmsg: readonly Target[];
  writev: readonly Source[];
  sendmsg: readonly Source[];
}
type BufferOf<K extends PreparedKind> = K extends keyof Buffers ? Buffers[K] : never;

interface Steps<K extends PreparedKind, Missing extends Part> {
  readonly kind: K;
  /** The descriptor or registered file. */
  file(file: File): Prepared<K, Exclude<Missing, "file">>;
  /** The memory; for vectors an array. */
  buffer(buffer: BufferOf<K>): Prepared<K, Exclude<Missing, "buffer">>;
  /** Position in the file. */
  at(position: number): Prepared<K, Missing>;
  flags(flags: number): Prepared<K, Missing>;
  timeout(milliseconds: number): Prepared<K, Missing>;
  signal(signal: AbortSignal): Prepared<K, Missing>;
}

interface Ready<K extends PreparedKind> {
  /** Starts it on a ring. Consumes it: a second time throws "EINVAL". */
  submit(ring: Ring): Operation<Kinds[K]>;
}

/** A prepared operation; `Missing` names what must still be set. */
export type Prepared<K extends PreparedKind, Missing extends Part = never> = Steps<K, Missing> &
  ([Missing] extends [never] ? Ready<K> : unknown);

/** What `ring.link` and `ring.batch` take: nothing is missing. */
export interface AnyPrepared {
  readonly kind: PreparedKind;
  submit(ring: Ring): Operation<never> | Operation<unknown>;
}

type Method = (...values: unknown[]) => Operation<unknown>;

/** One object for every kind; the types above say what it shows. */
export class Builder {
  readonly kind: PreparedKind;
  readonly #needs: readonly Part[];
  readonly #rest: readonly unknown[];
  #options: Record<string, unknown> | undefined;
  #file: File | undefined;
  #buffer: unknown;
  #consumed = false;

  constructor(
    kind: PreparedKind,
    needs: readonly Part[],
    rest: readonly unknown[],
    options: object | undefined,
  ) {
    this.kind = kind;
    this.#needs = needs;
    this.#rest = rest;
    this.#options = options === undefined ? undefined : { ...options };
  }

  file(file: File): this {
    this.#file = file;
    return this;
  }

  buffer(buffer: unknown): this {
    this.#buffer = buffer;
    return this;
  }

  at(position: number): this {
    return this.#option("at", position);
  }

  flags(flags: number): this {
    return this.#option("flags", flags);
  }

  timeout(milliseconds: number): this {
    return this.#option("timeout", milliseconds);
  }

  signal(signal: AbortSignal): this {
    return this.#option("signal", signal);
  }

  #option(name: string, value: unknown): this {
    this.#options ??= {};
    this.#options[name] = value;
    return this;
  }

  submit(ring: Ring): Operation<unknown> {
    this.assertReady();
    if (typeof (ring as Partial<Ring> | null)?.[this.kind] !== "function") {
      throw argumentError("submit", "ring", "a Ring", ring);
    }
    return this.start(ring);
  }

  /** @internal Complete, and not used yet. */
  assertReady(): void {
    const { kind } = this;
    for (const part of this.#needs) {
      const given = part === "file" ? this.#file : this.#buffer;
      if (given !== undefined) continue;
      throw new UringError("EINVAL", kind, `${kind}: ${part} is not set`);
    }
    if (!this.#consumed) return;
    throw new UringError("EINVAL", kind, `${kind}: it was submitted already; prepare another one`);
  }

  /** @internal Consumes it even if the ring refuses: a moved buffer comes back with the error. */
  start(ring: Ring): Operation<unknown> {
    this.#consumed = true;
    const parts = this.#needs.map((part) => (part === "file" ? this.#file : this.#buffer));
    const method = ring[this.kind] as unknown as Method;
    return method.call(ring, ...parts, ...this.#rest, this.#options);
  }
}

function make<K extends PreparedKind, Missing extends Part = never>(
  kind: K,
  needs: readonly Part[],
  rest: readonly unknown[] = NOTHING,
  options?: object,
): Prepared<K, Missing> {
  return new Builder(kind, needs, rest, options) as unknown as Prepared<K, Missing>;
}

const NOTHING = [] as const;
const FILE = ["file"] as const;
const BOTH = ["file", "buffer"] as const;

/** Builders, by the names of the ring's methods; arguments beyond file and buffer go in here. */
export const prepare = {
  nop: () => make("nop", NOTHING),
  timeout: (milliseconds: number) => make("timeout", [], [milliseconds]),
  read: () => make<"read", Part>("read", BOTH),
  write: () => make<"write", Part>("write", BOTH),
  send: () => make<"send", Part>("send", BOTH),
  recv: () => make<"recv", Part>("recv", BOTH),
  readv: () => make<"readv", Part>("readv", BOTH),
  writev: () => make<"writev", Part>("writev", BOTH),
  sendmsg: (options: Pick<SendMessageOptions, "to" | "descriptors"> = {}) =>
    make<"sendmsg", Part>("sendmsg", BOTH, [], options),
  recvmsg: (options: { descriptors?: number } = {}) =>
    make<"recvmsg", Part>("recvmsg", BOTH, [], options),
  fsync: () => make<"fsync", "file">("fsync", FILE),
  datasync: () => make<"datasync", "file">("datasync", FILE),
  ftruncate: (length: number) => make<"ftruncate", "file">("ftruncate", FILE, [length]),
  fallocate: (offset: number, length: number) =>
    make<"fallocate", "file">("fallocate", FILE, [offset, length]),
  syncFileRange: (offset: number, length: number, flags: number) =>
    make<"syncFileRange", "file">("syncFileRange", FILE, [offset, length, flags]),
  close: () => make<"close", "file">("close", FILE),
  shutdown: (how: "read" | "write" | "both" = "both") =>
    make<"shutdown", "file">("shutdown", FILE, [how]),
  poll: (events: "read" | "write" | "read+write" | number) =>
    make<"poll", "file">("poll", FILE, [events]),
  listen: (backlog = 128) => make<"listen", "file">("listen", FILE, [backlog]),
  bind: (address: SocketAddress) => make<"bind", "file">("bind", FILE, [address]),
  connect: (address: SocketAddress) => make<"connect", "file">("connect", FILE, [address]),
  accept: () => make<"accept", "file">("accept", FILE),
  openat: (path: Path, flags: number | string = "r", options: OpenOptions = {}) =>
    make("openat", [], [path, flags], options),
  statx: (path: Path, options: PathOptions = {}) => make("statx", [], [path], options),
  unlink: (path: Path, options: PathOptions = {}) => make("unlink", [], [path], options),
  mkdir: (path: Path, options: OpenOptions = {}) => make("mkdir", [], [path], options),
  rename: (from: Path, to: Path, options: RenameOptions = {}) =>
    make("rename", [], [from, to], options),
  link: (from: Path, to: Path, options: RenameOptions = {}) =>
    make("link", [], [from, to], options),
  symlink: (target: Path, path: Path, options: PathOptions = {}) =>
    make("symlink", [], [target, path], options),
  socket: (domain: "ipv4" | "ipv6" | "unix" | number, type: string | number = "stream") =>
    make("socket", [], [domain, type]),
  splice: (source: number, target: File, length: number) =>
    make("splice", [], [source, target, length]),
} as const;
