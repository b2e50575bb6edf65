// Errors are made here and nowhere else: code, errno, operation, phase, and a sentence.
//
// A message says what was asked, what happened and, where there is something to do, what. `code` is
// the kernel's name, `errno` its number, negative as in Node.

import { ERRNO, ERRNO_NAMES } from "./abi.ts";

/** The kernel's names, and the one of a host name that nobody knows. */
export type ErrorCode = keyof typeof ERRNO | "ENOTFOUND";

/** libuv's UV_EAI_NONAME, which is the number that Node gives to it. */
const ERRNO_NOT_FOUND = 3008;

/** Where an operation failed: in the call, or later in its completion. */
export type ErrorPhase = "submission" | "completion";

export class UringError extends Error {
  /** The kernel's name of the error: "ECONNREFUSED". See errno(3). */
  readonly code: ErrorCode;
  /** The negative number of `code`, as Node has it. */
  readonly errno: number;
  /** What was asked for: "listen", "connect", "write". */
  readonly operation: string;
  readonly phase: ErrorPhase;
  /** The memory that was handed in, given back: what `read` and `write` were called with. */
  declare buffer?: unknown;
  /** Of a send in a connection's queue: how much of it was sent, to the byte. */
  declare bytes?: number;
  /** Members of a batch that were started before it was given up; each hands its buffer back. */
  declare operations?: readonly unknown[];
  /** Of the error that ended a ring: what `ring.inspect()` said then. */
  declare inspection?: unknown;

  constructor(
    code: ErrorCode,
    operation: string,
    message: string,
    phase: ErrorPhase = "submission",
  ) {
    super(`${code}: ${message}`);
    this.name = "UringError";
    this.code = code;
    this.errno = -(code === "ENOTFOUND" ? ERRNO_NOT_FOUND : ERRNO[code]);
    this.operation = operation;
    this.phase = phase;
  }
}

/** The name of a negative errno, as the library returns it. */
export function codeOf(result: number): ErrorCode {
  return (ERRNO_NAMES[-result] ?? "EIO") as ErrorCode;
}

const sentences: Partial<Record<ErrorCode, string>> = {
  EADDRINUSE: "the address is in use already",
  EADDRNOTAVAIL: "this machine has no such address",
  EACCES: "permission denied",
  EBADF: "the ring is closed",
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "the peer reset the connection",
  ECANCELED: "cancelled",
  EEXIST: "the ring belongs to another thread; open one in this thread",
  EMFILE: "too many open files in this process; raise `ulimit -n`",
  ENFILE: "too many open files on this machine",
  ENOENT: "there is no such file, or it is gone",
  ENOMEM: "out of slots or memory; open the ring with larger options",
  EPERM: "not permitted here",
  EPIPE: "the peer reads no more",
  ETIMEDOUT: "it took too long",
  EHOSTUNREACH: "the host cannot be reached",
  ENETUNREACH: "the network cannot be reached",
};

/** The error for a negative result of `operation`; `subject` is what it was done to. */
export function resultError(
  result: number,
  operation: string,
  subject: string,
  phase: ErrorPhase,
): UringError {
  const code = codeOf(result);
  const reason = sentences[code] ?? "the kernel refused";
  return new UringError(code, operation, `${operation} ${subject}: ${reason}`, phase);
}

const strangers: Partial<Record<ErrorCode, string>> = {
  EBADF: "it is not open",
  EEXIST: "the ring has it already",
  EINVAL: "it is no stream socket, or one that cannot listen",
  ENOTCONN: "it is not connected",
  ENOTSOCK: "it is no socket",
  EOPNOTSUPP: "it is no stream socket",
};

/** A descriptor from elsewhere that does not do. */
export function strangerError(result: number, operation: string, fd: number): UringError {
  const code = codeOf(result);
  const reason = strangers[code] ?? sentences[code] ?? "the kernel refused";
  return new UringError(code, operation, `${operation} descriptor ${fd}: ${reason}`);
}

/** How an operation on a descriptor is named in messages: "read on fd 7". */
export function describeOperation(kind: string, fd: number): string {
  return fd < 0 ? kind : `${kind} on fd ${fd}`;
}

const refusals: Partial<Record<ErrorCode, string>> = {
  EAGAIN: "the submission queue is full; wait for completions, or open the ring with more entries",
  ENOMEM: "no operation slot or memory is free; wait for completions",
  EBUSY: "the registration is draining; register again when it is unregistered",
  ENOENT: "nothing is registered",
  EOVERFLOW: "offset and length reach beyond the registered buffer",
  EINVAL: "the arguments do not fit this operation",
  ESHUTDOWN: "the ring is closing",
};

const failures: Partial<Record<ErrorCode, string>> = {
  ...sentences,
  EBADF: "the descriptor is not open",
  ECANCELED: "cancelled",
  EEXIST: "it exists already",
  EFAULT: "the memory is not there",
  EINVAL: "invalid, or its memory was taken away meanwhile",
  EISDIR: "it is a directory",
  ENOENT: "there is no such file or directory",
  ENOMEM: "out of memory",
  ENOTDIR: "a part of the path is no directory",
};

/** The call was refused: nothing was submitted. */
export function submissionError(result: number, kind: string, fd: number): UringError {
  const code = codeOf(result);
  const reason = refusals[code] ?? failures[code] ?? "refused";
  return new UringError(code, kind, `${describeOperation(kind, fd)}: ${reason}`, "submission");
}

/** What an operation came to; `limited` if it had a time-out of its own. */
export function completionError(
  result: number,
  kind: string,
  fd: number,
  limited: boolean,
): UringError {
  const code = codeOf(result);
  const reason = failures[code] ?? "the kernel refused";
  const message = `${describeOperation(kind, fd)}: ${reason}`;
  const error = new UringError(code, kind, message, "completion");
  if (code === "ECANCELED") error.name = "AbortError";
  if (code === "ETIMEDOUT" && limited) error.name = "TimeoutError";
  return error;
}

/** A wrong argument: what was expected, what came. */
export function argumentError(
  operation: string,
  name: string,
  expected: string,
  received: unknown,
): UringError {
  const message = `${operation}: ${name} must be ${expected}, not ${describe(received)}`;
  return new UringError("EINVAL", operation, message);
}

function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 60));
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (value === null || typeof value !== "object") return String(value);
  if (Array.isArray(value)) return "an array";
  return `an object (${value.constructor?.name ?? "without prototype"})`;
}

/** An integer in [least, most], or an error that names it. */
export function checkInteger(
  operation: string,
  name: string,
  value: unknown,
  least: number,
  most: number,
): number {
  if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
    throw argumentError(operation, name, `an integer from ${least} to ${most}`, value);
  }
  return value;
}

export function checkBoolean(operation: string, name: string, value: unknown): boolean {
  if (typeof value !== "boolean") throw argumentError(operation, name, "true or false", value);
  return value;
}

/** Hands an error that nobody handles to the process, as a throwing event listener would. */
export function reportUncaught(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
