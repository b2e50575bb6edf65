// Socket activation: the descriptors that a service manager has opened for the process.
//
// The protocol of sd_listen_fds(3): LISTEN_FDS of them from number 3 on, meant for LISTEN_PID, with
// names in LISTEN_FDNAMES. The variables are removed, so that no child takes them for its own.

import { UringError } from "./errors.ts";

/** A descriptor that a service manager has passed. */
export interface ListenFd {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit; "unknown" where none is given. */
  readonly name: string;
}

/** SD_LISTEN_FDS_START. */
const FIRST = 3;
const COUNT_MAX = 1 << 16;

/**
 * The descriptors that the service manager has passed to this process, for `listen` and `serve`:
 * none if it was started otherwise. A second call finds none. "EINVAL": they are malformed.
 */
export function listenFds(): ListenFd[] {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: names } = process.env;
  if (pid === undefined || count === undefined) return [];
  if (readNumber("LISTEN_PID", pid) !== process.pid) return []; // somebody else's, inherited
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete process.env[name];
  const named = names?.split(":") ?? [];
  return Array.from({ length: readNumber("LISTEN_FDS", count) }, (_, at) => {
    return { fd: FIRST + at, name: named[at] || "unknown" };
  });
}

function readNumber(variable: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number <= (variable === "LISTEN_FDS" ? COUNT_MAX : Number.MAX_SAFE_INTEGER)) return number;
  const message = `listenFds: ${variable} must be a number, not ${JSON.stringify(text)}`;
  throw new UringError("EINVAL", "listenFds", message);
}
