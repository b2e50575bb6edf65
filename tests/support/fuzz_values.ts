// Arguments for calls made at random: mostly what the parameter's name asks for, often enough what
// it does not, and never what would hurt the machine (descriptors of others, hosts elsewhere).

import { dlopen } from "bun:ffi";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BufferPool, NativeBlock, Operation, prepare, Ring } from "../../ts/index.ts";
import { Listener } from "../../ts/listen.ts";
import { VALUES } from "./bad_values.ts";
import { isOurs } from "./public_names.ts";
import { Random } from "./random.ts";
import { socketPair } from "./raw_socket.ts";

const { symbols: libc } = dlopen("libc.so.6", {
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
});
const F_DUPFD_CLOEXEC = 1030;
/** A number that is taken by nobody else: what is closed here is never somebody else's. */
const HIGH = 600;
/** What would use the disk up, `fallocate(2)`. */
const LENGTH_MAX = 1 << 16;
const WORDS = [
  "r", "w", "a+", "read", "write", "both", "ipv4", "unix", "stream", "dgram", "read+write", "nop",
  "uint8array", "arraybuffer", "buffer", "borrowed", "uring", "epoll", "hex", "latin1", "in", "out",
];
const OPTION_NAMES = [
  "signal", "timeout", "at", "offset", "length", "flags", "mode", "cancel", "fd", "kind",
  "release", "multishot", "hard", "data", "socket", "hostname", "port", "unix", "ring",
  "binaryType", "entries", "operations", "receiveBuffers", "disable", "size", "count", "address",
  "allowHalfOpen", "to", "highWaterMark", "connect", "proxyProtocol", "zeroCopy",
  "zeroCopyThreshold", "spliceThreshold", "end", "backend", "receiveBufferSize", "holdBuffers",
  "connections", "exclusive", "reusePort", "noFollow",
];

/** Thrown by handlers on purpose. */
export class Mischief extends Error {
  override name = "Mischief";
}

export class Values {
  readonly #random: Random;
  readonly #things: object[];
  readonly #folder: string;
  readonly #fds: number[] = [];

  constructor(random: Random, things: object[], folder: string) {
    this.#random = random;
    this.#things = things;
    this.#folder = folder;
    for (const name of ["a", "kept"]) writeFileSync(join(folder, name), random.bytes(20_000));
  }

  pick<Item>(list: readonly Item[]): Item {
    return list[this.#random.between(0, list.length - 1)] as Item;
  }

  /** For every parameter of a function one value, sometimes fewer or more. */
  forParameters(method: Function, name: string): unknown[] {
    const list = /\(([^)]*)/.exec(Function.prototype.toString.call(method))?.[1] ?? "";
    const names = list.split(",").map((one) => /\w+/.exec(one)?.[0] ?? "").filter(Boolean);
    if (this.#random.chance(0.1)) names.pop();
    if (this.#random.chance(0.05)) names.push("any");
    const values = names.map((parameter) => this.forName(parameter, name));
    if (name === "fallocate" || name === "ftruncate") {
      const tooMuch = (value: unknown) => typeof value === "number" && value > LENGTH_MAX;
      return values.map((value) => (tooMuch(value) ? LENGTH_MAX : value));
    }
    return values;
  }

  forName(name: string, method = ""): unknown {
    if (this.#random.chance(0.12)) return this.pick(Object.values(VALUES));
    switch (name) {
      case "fd": case "file": case "source":
        return this.descriptor();
      case "from": case "path":
        return this.path();
      case "target": case "to": case "first": case "second": case "reader": case "destination":
        return this.#byMethod(method);
      case "data": case "buffer": case "bytes": case "input": case "chunk":
        return this.bytes();
      case "buffers": case "parts": case "packets":
        return this.#list(() => this.bytes());
      case "members":
        return this.#list(() => this.prepared());
      case "options": case "filter": case "asked": case "handlers":
        return this.options();
      case "callback": case "handler": case "onFulfilled": case "onRejected": case "onFinally":
      case "job":
        return this.callback();
      case "address":
        return this.address();
      case "signal":
        return this.signal();
      case "operation":
        return this.thing(Operation) ?? 0;
      case "ring":
        return this.thing(Ring);
      case "keys":
        return this.#random.chance(0.5) ? this.small() : [this.small(), this.small()];
      case "milliseconds": case "seconds": case "timeout": case "timeoutMs":
        return this.#random.between(0, 3);
      case "events": case "how": case "type": case "domain": case "kind": case "binaryType":
      case "encoding":
        return this.pick(WORDS);
      case "port":
        return this.#port();
      default:
        return this.any();
    }
  }

  #byMethod(method: string): unknown {
    switch (method) {
      case "splice":
        return this.descriptor();
      case "close":
        return this.#random.chance(0.5) ? this.descriptor() : { cancel: true };
      case "pipeTo": case "proxy":
        return this.pick(this.#things);
      case "cancel":
        return this.thing(Operation);
      case "link":
        return this.#random.chance(0.5) ? this.path() : this.#list(() => this.prepared());
      default:
        return this.path();
    }
  }

  any(): unknown {
    const makers = [
      () => this.small(), () => this.bytes(), () => this.pick(WORDS), () => this.options(),
      () => this.callback(), () => this.pick(this.#things), () => this.path(),
      () => this.#random.chance(0.5), () => undefined,
    ];
    return this.pick(makers)();
  }

  /** Never 1 or 2, which are descriptors of the process's. */
  small(): number {
    return this.#random.chance(0.3) ? 0 : this.#random.size(3, 20_000);
  }

  #list<Item>(make: () => Item): Item[] {
    return Array.from({ length: this.#random.between(0, 4) }, make);
  }

  /** One of a few descriptors that are ours to break, made anew when they are gone. */
  descriptor(): number {
    if (this.#fds.length < 8) this.#fds.push(...this.#makeDescriptors());
    if (this.#random.chance(0.05)) this.#fds.splice(this.#random.between(0, 7), 1).forEach(close);
    return this.pick([-1, 9999, ...this.#fds]);
  }

  #makeDescriptors(): number[] {
    const flags = this.#random.chance(0.5) ? "r+" : "r";
    const low = [...socketPair(), openSync(join(this.#folder, "kept"), flags)];
    return low.map((fd) => {
      const high = libc.fcntl(fd, F_DUPFD_CLOEXEC, HIGH);
      closeSync(fd);
      return high;
    });
  }

  path(): string {
    return join(this.#folder, this.pick(["a", "b", "c", "d", "d/e", "", "x\0y", "é".repeat(200)]));
  }

  bytes(): unknown {
    const length = this.#random.chance(0.1) ? 0 : this.#random.size(1, 70_000);
    const makers: (() => unknown)[] = [
      () => this.#random.bytes(length),
      () => new Uint8Array(length),
      () => new Uint8Array(length).subarray(length >> 1),
      () => new Float64Array(length >> 3),
      () => new DataView(new ArrayBuffer(length)),
      () => new ArrayBuffer(length),
      () => new Uint8Array(new SharedArrayBuffer(length)),
      () => new Uint8Array(new ArrayBuffer(length, { maxByteLength: length * 2 })),
      () => "text".repeat(length >> 3),
      () => this.thing(NativeBlock),
      () => {
        const pool = this.thing(BufferPool);
        return pool === undefined ? new Uint8Array(9) : acquired(pool);
      },
      () => {
        const bytes = new Uint8Array(length);
        structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
        return bytes;
      },
    ];
    return this.pick(makers)();
  }

  prepared(): unknown {
    // What makes a descriptor would leave it to whoever reads the batch's results.
    const kinds = ["nop", "read", "write", "send", "recv", "timeout", "fsync", "poll", "statx"];
    const kind = this.pick(kinds);
    const builder = prepare[kind as "read"] as unknown as (...list: unknown[]) => {
      file?(fd: unknown): unknown;
      buffer?(bytes: unknown): unknown;
    };
    const made = builder(...this.forParameters(builder, kind));
    if (this.#random.chance(0.9)) made.file?.(this.forName("fd"));
    if (this.#random.chance(0.9)) made.buffer?.(this.bytes());
    return made;
  }

  options(): object {
    const options: Record<string, unknown> = {};
    for (let left = this.#random.between(0, 4); left > 0; left--) {
      const name = this.pick(OPTION_NAMES);
      options[name] = this.option(name);
    }
    return options;
  }

  option(name: string): unknown {
    if (this.#random.chance(0.12)) return this.pick(Object.values(VALUES));
    switch (name) {
      case "socket": return this.handlers();
      case "hostname": return this.pick(["127.0.0.1", "::1", "localhost"]);
      case "port": return this.#port();
      case "unix": return this.path();
      case "signal": case "fd": case "data": case "ring": case "timeout": case "address":
      case "kind": case "to": case "binaryType":
        return this.forName(name);
      case "entries": case "operations": case "receiveBuffers": case "size": case "count":
      case "connections": case "holdBuffers":
        return 2 ** this.#random.between(0, 6);
      case "receiveBufferSize": return 64 * this.#random.between(1, 20);
      case "backend": return this.pick(["auto", "uring", "epoll"]);
      case "disable": return [this.pick(["nop", "read", "buffer_ring", "defer_taskrun", "send"])];
      default:
        return this.#random.chance(0.5) ? this.small() : this.#random.chance(0.5);
    }
  }

  handlers(): object {
    const handlers: Record<string, unknown> = {};
    const names = ["open", "data", "drain", "end", "close", "error", "timeout", "connectError"];
    for (const name of names) if (this.#random.chance(0.7)) handlers[name] = this.callback(name);
    return handlers;
  }

  /** It throws or calls something else now and then. */
  callback(name = ""): (...values: unknown[]) => unknown {
    const throws = name !== "error" && this.#random.chance(0.1);
    const answers = this.#random.chance(0.3);
    return (...values) => {
      if (throws) throw new Mischief(name);
      if (answers && name === "data") {
        (values[0] as { write(data: unknown): void }).write(values[1]);
      }
      if (values.some((value) => typeof value === "object")) this.keep(values);
      return undefined;
    };
  }

  /** What a handler was given is fair game from then on. */
  keep(values: unknown[]): void {
    for (const value of values) {
      if (!isOurs(value) || value instanceof Error) continue;
      if (!this.#things.includes(value)) this.#things.push(value);
    }
  }

  address(): unknown {
    return this.#random.chance(0.3)
      ? { path: this.path() }
      : { hostname: this.pick(["127.0.0.1", "::1"]), port: this.#port() };
  }

  #port(): number {
    const listener = this.thing(Listener);
    return typeof listener?.port === "number" ? listener.port : 0;
  }

  signal(): AbortSignal {
    const controller = new AbortController();
    const choice = this.#random.between(0, 2);
    if (choice === 0) controller.abort();
    else if (choice === 1) setImmediate(() => controller.abort(new Mischief("abort")));
    return controller.signal;
  }

  thing<Thing>(type: abstract new (...values: never[]) => Thing): Thing | undefined {
    const fitting = this.#things.filter((thing) => thing instanceof type);
    return fitting.length === 0 ? undefined : this.pick(fitting) as Thing;
  }

  end(): void {
    for (const fd of this.#fds.splice(0)) close(fd);
  }
}

function acquired(pool: BufferPool): unknown {
  try {
    return pool.acquire();
  } catch (error) {
    return error; // of a ring that is closed: a wrong value like any other
  }
}

function close(fd: number): void {
  try {
    closeSync(fd);
  } catch (error) {
    if ((error as { code?: string }).code !== "EBADF") throw error; // the ring closed it
  }
}
