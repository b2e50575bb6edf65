// What the tests of operations share: errors as values, files and pipes that clean up.
//
// Files are in the folder of the run.

import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { OperationName, UringError } from "../../ts/index.ts";
import { folder } from "./folder.ts";

/** Kinds with a plain system call that does the same, by the test that runs them both ways. */
export const FILE_KINDS = [
  "nop", "read", "write", "readv", "writev", "fsync", "datasync", "sync_file_range", "fallocate",
  "ftruncate", "openat", "close", "statx", "splice", "rename", "unlink", "mkdir",
  "link", "symlink",
] as const satisfies OperationName[];
export const SOCKET_KINDS = [
  "socket", "bind", "listen", "shutdown",
] as const satisfies OperationName[];
/** Those wait for somebody else, or are the ring's own: no plain call does the same. */
export const RING_KINDS = [
  "accept", "connect", "send", "recv", "sendmsg", "recvmsg", "poll", "timeout", "read_fixed",
  "write_fixed",
] as const satisfies OperationName[];

let made = 0;

/** The error that a call throws. */
export function thrown(call: () => unknown): UringError {
  try {
    call();
  } catch (error) {
    return error as UringError;
  }
  throw new Error(`it did not throw: ${call}`);
}

/** The error that it rejects with. */
export async function rejected(awaited: PromiseLike<unknown>): Promise<UringError> {
  let value: unknown;
  try {
    value = await awaited;
  } catch (error) {
    return error as UringError;
  }
  throw new Error(`it did not reject: ${Bun.inspect(value)}`);
}

/** A file with this content, open for reading and writing. */
export function file(content = "") {
  const path = join(folder, `file-${made++}`);
  writeFileSync(path, content);
  const fd = openSync(path, "r+");
  const text = () => readFileSync(path, "utf8");
  return { path, fd, text, [Symbol.dispose]: () => closeSync(fd) };
}

/** A pipe, open at both ends in one descriptor: reads of it wait until something is written. */
export function pipe() {
  const path = join(folder, `pipe-${made++}`);
  const { exitCode, stderr } = Bun.spawnSync(["mkfifo", path]);
  if (exitCode !== 0) throw new Error(stderr.toString());
  const fd = openSync(path, "r+");
  return { path, fd, [Symbol.dispose]: () => closeSync(fd) };
}
