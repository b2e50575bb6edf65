// The options of a ring: checked, turned into the library's words; why a ring was refused.
//
// Names in `disable` and in BUN_URING_DISABLE are features, which are treated as refused by the
// kernel, operations, which then are done by plain system calls with the same result, or releases
// of Linux, which mask what came later.
// BUN_URING_BACKEND is for rings whose options name no backend.

import { Backend, ERRNO, Feature, OperationKind, Reason } from "./abi.ts";
import { argumentError, checkInteger, codeOf, UringError } from "./errors.ts";
import type { RingOptionWords } from "./memory.ts";
import { isRelease, laterThan, RELEASES, type Release } from "./releases.ts";

export type FeatureName = keyof typeof Feature;
export type OperationName = keyof typeof OperationKind;

export type BackendName = "uring" | "epoll";

export interface RingOptions {
  /**
   * The kernel interface. "auto" takes io_uring, and epoll with the same behaviour where io_uring
   * is refused; the others take what they name, or throw. Default: BUN_URING_BACKEND, or "auto".
   */
  backend?: BackendName | "auto";
  /** Submission queue entries, a power of two up to 32768. Default 1024. */
  entries?: number;
  /** Completion queue entries, a power of two from 4096. Default 8192. */
  completionEntries?: number;
  /** Receive buffers shared by all connections, a power of two up to 32768. Default 512. */
  receiveBuffers?: number;
  /** Bytes of one receive buffer, a multiple of 64 up to 1 MiB. Default 16384. */
  receiveBufferSize?: number;
  /**
   * Blocks into which connections receive that get much at a time, shared by all; a power of two
   * up to 1024, 0 for none. Default 16.
   */
  receiveBlocks?: number;
  /** Bytes of one block, a multiple of 4096 up to 16 MiB. Default 1 MiB. */
  receiveBlockSize?: number;
  /**
   * Receive buffers, and bytes in them, that one connection may hold: at either it receives no
   * more, and TCP pushes back, until half is back. Default 8 and 128 KiB.
   */
  holdBuffers?: number;
  holdBytes?: number;
  /** Connections open at a time. Default 65536. */
  connections?: number;
  /** Operations in flight at a time; more are refused with ENOMEM. Default 65536. */
  operations?: number;
  /** Blocks of 2 KiB that hold written bytes, for all connections together. Default 16384. */
  stagingBlocks?: number;
  /** Bytes that one connection may have queued before `write` takes less. Default 256 KiB. */
  highWaterMark?: number;
  /**
   * Turns of Bun's loop without work before the ring sleeps, up to 10000. More answer a lone peer
   * sooner, fewer leave the processor to others between messages. Default 20; 0 sleeps at once.
   */
  spinTurns?: number;
  /** Posts that wait for the ring's turn; more are refused with EAGAIN. A power of two up to 2^20.
   * Default 4096. */
  posts?: number;
  /** Workers that `offload` starts at most, up to 64. Default: one per CPU, at most 4. */
  offloadWorkers?: number;
  /** Jobs of `offload` that are not over; more are refused with EAGAIN. Default 256. */
  offloadJobs?: number;
  /**
   * Bytes from which on `socket.send` and its like send without a copy; `Infinity` is never, and
   * the default.
   */
  zeroCopyThreshold?: number;
  /**
   * Bytes that come at a time from which on `pipeTo` and `proxy` carry them through pipes of the
   * kernel, without a copy. Default 32768; `Infinity` is never. splice(2)
   */
  spliceThreshold?: number;
  /**
   * Features to treat as refused, operations to do by plain system calls, and a release of Linux
   * ("6.1") to have nothing that came later; besides those in BUN_URING_DISABLE.
   */
  disable?: readonly (FeatureName | OperationName | Release)[];
  /** What `close` waits for the kernel to give everything back, milliseconds. Default 1000. */
  closeTimeout?: number;
  /** Told what goes wrong behind everybody's back. Default: console.error. */
  onLog?: (message: string) => void;
  /**
   * Told when connections begin to wait because all receive buffers are in use, with their number.
   * They are served in turn; more `receiveBuffers`, or chunks released earlier, would help.
   */
  onStarved?: (waiting: number) => void;
}

const NUMERIC_OPTIONS = {
  entries: ["entries", 2, 32768],
  completionEntries: ["cq_entries", 4096, 131072],
  receiveBuffers: ["receive_buffers", 1, 32768],
  receiveBufferSize: ["receive_buffer_size", 64, 1 << 20],
  receiveBlocks: ["receive_blocks", 0, 1024],
  receiveBlockSize: ["receive_block_size", 4096, 1 << 24],
  holdBuffers: ["hold_buffers", 1, 32768],
  holdBytes: ["hold_bytes", 1, 2 ** 31 - 1],
  operations: ["operations", 1, (1 << 24) - 1],
  connections: ["connections", 1, (1 << 24) - 1],
  stagingBlocks: ["staging_blocks", 1, 1 << 20],
  highWaterMark: ["high_water_mark", 1, 1 << 30],
  posts: ["posts", 2, 1 << 20],
} as const;

/** Those that the library does not see. */
const LOOP_OPTIONS = [
  ["closeTimeout", 0, 60_000],
  ["offloadWorkers", 1, 64],
  ["offloadJobs", 1, 1 << 20],
  ["spinTurns", 0, 10_000],
] as const;

/** Of a threshold. */
const NEVER = 0xffff_ffff;
/** Of `receive_blocks`, where 0 stands for the default. */
const BLOCKS_NONE = 0xffff_ffff;

export function readZeroCopyThreshold(operation: string, threshold: unknown): number {
  return readThreshold(operation, "zeroCopyThreshold", threshold);
}

/** 0 stands for unset. */
function readThreshold(operation: string, name: string, threshold: unknown): number {
  if (threshold === undefined) return 0;
  if (threshold === Number.POSITIVE_INFINITY) return NEVER;
  return checkInteger(operation, name, threshold, 1, NEVER);
}

export function readOptions(options: RingOptions): RingOptionWords {
  if (typeof options !== "object" || options === null) {
    throw argumentError("Ring", "options", "an object", options);
  }
  for (const name of ["onLog", "onStarved"] as const) {
    if (options[name] === undefined || typeof options[name] === "function") continue;
    throw argumentError("Ring", name, "a function", options[name]);
  }
  for (const [name, least, most] of LOOP_OPTIONS) {
    if (options[name] !== undefined) checkInteger("Ring", name, options[name], least, most);
  }
  const words = readDisabled(options.disable);
  words.backend = readBackend(options.backend);
  words.zero_copy_min = readZeroCopyThreshold("Ring", options.zeroCopyThreshold);
  words.splice_min = readThreshold("Ring", "spliceThreshold", options.spliceThreshold);
  for (const [name, [word, least, most]] of Object.entries(NUMERIC_OPTIONS)) {
    const value = options[name as keyof typeof NUMERIC_OPTIONS];
    if (value !== undefined) words[word] = checkInteger("Ring", name, value, least, most);
  }
  if (words.receive_blocks === 0) words.receive_blocks = BLOCKS_NONE;
  return words;
}

const BACKENDS = { auto: Backend.none, uring: Backend.uring, epoll: Backend.epoll } as const;

function readBackend(option: unknown): number {
  const fromEnvironment = option === undefined;
  const name = fromEnvironment ? process.env["BUN_URING_BACKEND"] || "auto" : option;
  if (typeof name === "string" && Object.hasOwn(BACKENDS, name)) {
    return BACKENDS[name as keyof typeof BACKENDS];
  }
  const what = fromEnvironment ? "BUN_URING_BACKEND" : "backend";
  throw argumentError("Ring", what, `one of ${Object.keys(BACKENDS).join(", ")}`, name);
}

/** What has a plain system call that does not block for somebody else's sake. */
const MASKABLE = new Set<string>([
  "nop", "read", "write", "readv", "writev", "fsync", "datasync", "openat", "close", "statx",
  "fallocate", "ftruncate", "sync_file_range", "socket", "bind", "listen", "shutdown", "splice",
  "rename", "unlink", "mkdir", "link", "symlink",
]);

/** The option's names and those of BUN_URING_DISABLE, comma-separated, as bits. */
function readDisabled(option: unknown = []): RingOptionWords {
  if (!Array.isArray(option)) {
    throw argumentError("Ring", "disable", "an array of names", option);
  }
  const masked = (process.env["BUN_URING_DISABLE"] ?? "").split(",").map((name) => name.trim());
  let features = 0;
  const operations = [0, 0];
  const names = [...masked.filter((text) => text !== ""), ...(option as unknown[])];
  for (const name of names.flatMap((one) => (isRelease(one) ? laterThan(one) : [one]))) {
    if (typeof name === "string" && Object.hasOwn(Feature, name)) {
      features |= 1 << Feature[name as FeatureName];
    } else if (typeof name === "string" && MASKABLE.has(name)) {
      const kind = OperationKind[name as OperationName];
      operations[kind >>> 5] = (operations[kind >>> 5] ?? 0) | (1 << (kind & 31));
    } else {
      const known = [...Object.keys(Feature), ...MASKABLE, ...RELEASES].join(", ");
      throw argumentError("Ring", "a disabled feature", `one of ${known}`, name);
    }
  }
  return {
    features_disabled: features,
    operations_disabled_low: operations[0] ?? 0,
    operations_disabled_high: operations[1] ?? 0,
  };
}

/** Why a ring has the backend that it has. */
export function reasonSentence(reason: number, errno: number): string {
  if (reason === Reason.requested) return "asked for by the caller";
  if (reason !== Reason.probed) return `io_uring is refused: ${refusalSentence(0, reason, errno)}`;
  return "io_uring passed the probe: provided buffers and receives over a socket pair";
}

/** Why no ring could be had, and what can be done about it. */
export function refusal(outcome: number, reason: number, errno: number): UringError {
  const message = `no ring: ${refusalSentence(outcome, reason, errno)}`;
  return new UringError(codeOf(outcome), "Ring", message);
}

function refusalSentence(outcome: number, reason: number, errno: number): string {
  const detail = errno === 0 ? "masked" : codeOf(-errno);
  if (detail === "EPERM" && reason !== Reason.epoll_refused) {
    return (
      "io_uring is forbidden here (EPERM): by a seccomp profile, as Docker's and Kubernetes' " +
      "default ones do, or by `sysctl kernel.io_uring_disabled`; allow the io_uring system " +
      "calls, or set the sysctl to 0"
    );
  }
  if (detail === "EMFILE" || detail === "ENFILE") {
    return (
      `no descriptor is free (${detail}): a ring takes up to five; close some, or raise the ` +
      "limit (`ulimit -n`)"
    );
  }
  if (detail === "ENOMEM") {
    return (
      "out of memory (ENOMEM); raise the limit on locked memory (`ulimit -l`) or open it with " +
      "fewer entries and buffers"
    );
  }
  switch (reason) {
    case Reason.setup_refused:
      if (detail === "ENOSYS") {
        return (
          "this kernel has no io_uring, or a seccomp profile hides it (ENOSYS); it needs Linux " +
          "5.19 with CONFIG_IO_URING"
        );
      }
      return `io_uring_setup was refused (${detail})`;
    case Reason.buffer_ring_refused:
      return `provided-buffer rings were refused (${detail}); they need Linux 5.19`;
    case Reason.receive_refused:
      return `receiving into provided buffers does not work here (${detail}); it needs Linux 5.19`;
    case Reason.opcode_refused:
      return `operations that a ring cannot do without are forbidden here (${detail})`;
    case Reason.eventfd_refused:
      return `an eventfd could not be registered (${detail})`;
    case Reason.epoll_refused:
      return `epoll, or a timerfd for it, was refused (${detail})`;
    default:
      return outcome === -ERRNO.EMFILE
        ? "too many rings in this process"
        : "the options do not fit together; the completion queue must not be the smaller one";
  }
}
