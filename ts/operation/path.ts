// Operations on paths: open, status, names.
//
// A path is text or bytes, relative to `directory` where one is given. It is copied within the
// call. `close` of a descriptor stands in `ring.ts`, beside the close of the ring itself.

import { constants } from "node:fs";
import { ARGUMENTS_WORDS, OperationKind } from "../abi.ts";
import { CopiedInput } from "../cargo.ts";
import { argumentError, checkInteger } from "../errors.ts";
import {
  callbackOf,
  launch,
  optionsOf,
  type Callback,
  type Operation,
  type OperationOptions,
} from "../operation.ts";
import { StatusCargo, type FileStatus } from "../statx.ts";
import { FileOperations, flagsOf } from "./file.ts";

export type Path = string | Uint8Array;

export interface PathOptions extends OperationOptions {
  /** Descriptor of the directory that a relative path starts at. Default: the working directory. */
  directory?: number;
  flags?: number;
}

export interface OpenOptions extends OperationOptions {
  directory?: number;
  /** Permissions of a file that is created, less the process' mask. Default 0o666. */
  mode?: number;
}

export interface StatusOptions extends PathOptions {
  /** STATX_ bits of what is wanted. Default: all basic fields and the time of birth. */
  mask?: number;
}

export interface RenameOptions extends PathOptions {
  /** Where a relative new path starts. Default: `directory`. */
  directoryTo?: number;
}

const WORDS = ARGUMENTS_WORDS;
/** AT_FDCWD of openat(2). */
const WORKING_DIRECTORY = -100;
const PATH_MAX = 4095;
/** STATX_BASIC_STATS | STATX_BTIME of statx(2). */
const STATX_MASK = 0xfff;

const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_TRUNC, O_APPEND, O_EXCL } = constants;

/** The flags of fopen(3), with "x" as in Node: fail if it exists. */
const OPEN_FLAGS: Record<string, number> = {
  r: O_RDONLY,
  "r+": O_RDWR,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  "w+": O_RDWR | O_CREAT | O_TRUNC,
  "wx+": O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  "a+": O_RDWR | O_CREAT | O_APPEND,
  "ax+": O_RDWR | O_CREAT | O_APPEND | O_EXCL,
};

function bytesOfPath(kind: string, name: string, path: unknown): Uint8Array {
  const expected = `a path of 1 to ${PATH_MAX} bytes without NUL`;
  const known = typeof path === "string" || path instanceof Uint8Array;
  const bytes = known ? Buffer.from(path as string) : Buffer.alloc(0);
  if (bytes.length === 0 || bytes.length > PATH_MAX || bytes.includes(0)) {
    throw argumentError(kind, name, expected, path);
  }
  return bytes;
}

function directoryOf(kind: string, directory: unknown): number {
  if (directory === undefined || directory === WORKING_DIRECTORY) return WORKING_DIRECTORY;
  return checkInteger(kind, "directory", directory, 0, 0x7fff_ffff);
}

function openFlags(flags: unknown): number {
  if (typeof flags === "string" && Object.hasOwn(OPEN_FLAGS, flags)) {
    return OPEN_FLAGS[flags] as number;
  }
  if (typeof flags !== "string") return checkInteger("openat", "flags", flags, 0, 0x7fff_ffff);
  const known = Object.keys(OPEN_FLAGS).join(", ");
  throw argumentError("openat", "flags", `bits, or one of ${known}`, flags);
}

export class PathOperations extends FileOperations {
  /**
   * Opens a file: its descriptor, close-on-exec. `flags`: O_ bits, or as fopen(3). Callback:
   * `(result)`. A descriptor that nobody awaits is closed with its handle. openat(2)
   */
  openat(
    path: Path,
    flags: number | string = "r",
    options?: OpenOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("openat", options as OpenOptions);
    const told = callbackOf("openat", options, callback);
    const input = bytesOfPath("openat", "path", path);
    const bits = openFlags(flags);
    const mode = checkInteger("openat", "mode", given.mode ?? 0o666, 0, 0o7777);
    this.#preparePath("openat", given.directory, bits);
    this.memory.arguments.integers[WORDS.mode] = mode;
    const cargo = new CopiedInput(input);
    return launch(this, OperationKind.openat, -1, cargo, given, told).makesDescriptor();
  }

  /** What is known of a file. Callback: `(result, status)`. statx(2) */
  statx(
    path: Path,
    options?: StatusOptions | Callback<FileStatus>,
    callback?: Callback<FileStatus>,
  ): Operation<FileStatus> {
    const given = optionsOf("statx", options as StatusOptions);
    const told = callbackOf("statx", options, callback);
    const input = bytesOfPath("statx", "path", path);
    const mask = checkInteger("statx", "mask", given.mask ?? STATX_MASK, 0, 0x7fff_ffff);
    this.#preparePath("statx", given.directory, flagsOf("statx", given.flags));
    this.memory.arguments.integers[WORDS.mode] = mask;
    return launch(this, OperationKind.statx, -1, new StatusCargo(input), given, told);
  }

  /** Removes a name; `flags` AT_REMOVEDIR for a directory. Callback: `(result)`. unlinkat(2) */
  unlink(path: Path, options?: PathOptions | Callback, callback?: Callback): Operation {
    const given = optionsOf("unlink", options as PathOptions);
    const told = callbackOf("unlink", options, callback);
    const input = bytesOfPath("unlink", "path", path);
    this.#preparePath("unlink", given.directory, flagsOf("unlink", given.flags));
    return launch(this, OperationKind.unlink, -1, new CopiedInput(input), given, told);
  }

  /** Makes a directory; `mode` default 0o777. Callback: `(result)`. mkdirat(2) */
  mkdir(path: Path, options?: OpenOptions | Callback, callback?: Callback): Operation {
    const given = optionsOf("mkdir", options as OpenOptions);
    const told = callbackOf("mkdir", options, callback);
    const input = bytesOfPath("mkdir", "path", path);
    const mode = checkInteger("mkdir", "mode", given.mode ?? 0o777, 0, 0o7777);
    this.#preparePath("mkdir", given.directory, 0);
    this.memory.arguments.integers[WORDS.mode] = mode;
    return launch(this, OperationKind.mkdir, -1, new CopiedInput(input), given, told);
  }

  /** Gives a file another name. Callback: `(result)`. renameat2(2) */
  rename(
    from: Path,
    to: Path,
    options?: RenameOptions | Callback,
    callback?: Callback,
  ): Operation {
    return this.#twoPaths("rename", OperationKind.rename, from, to, options, callback);
  }

  /** @internal A further name for a file: `Ring.link`. linkat(2) */
  hardLink(
    from: Path,
    to: Path,
    options?: RenameOptions | Callback,
    callback?: Callback,
  ): Operation {
    return this.#twoPaths("link", OperationKind.link, from, to, options, callback);
  }

  /** Makes a symbolic link at `path` that says `target`. Callback: `(result)`. symlinkat(2) */
  symlink(
    target: Path,
    path: Path,
    options?: PathOptions | Callback,
    callback?: Callback,
  ): Operation {
    return this.#twoPaths("symlink", OperationKind.symlink, target, path, options, callback);
  }

  #twoPaths(
    name: string,
    kind: OperationKind,
    from: Path,
    to: Path,
    options: RenameOptions | Callback | undefined,
    callback: Callback | undefined,
  ): Operation {
    const given = optionsOf(name, options as RenameOptions);
    const told = callbackOf(name, options, callback);
    const first = bytesOfPath(name, "the first path", from);
    const second = bytesOfPath(name, "the second path", to);
    const directoryTo = directoryOf(name, given.directoryTo ?? given.directory);
    this.#preparePath(name, given.directory, flagsOf(name, given.flags));
    const { integers } = this.memory.arguments;
    integers[WORDS.fd_second] = directoryTo;
    integers[WORDS.extra] = first.length;
    const input = Buffer.concat([first, Buffer.alloc(1), second]);
    return launch(this, kind, -1, new CopiedInput(input), given, told);
  }

  #preparePath(kind: string, directory: unknown, flags: number): void {
    this.assertOpen(kind);
    this.memory.arguments.reset(directoryOf(kind, directory));
    this.memory.arguments.integers[WORDS.flags] = flags;
  }
}
