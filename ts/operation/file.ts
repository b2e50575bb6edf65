// Operations on open files: bytes, vectors, synchronisation, space.
//
// Each checks its arguments, writes them where the library reads them, and hands over to `launch`.
// A result is the system call's own: a short read or write is a result and no error.

import { ARGUMENTS_WORDS, OperationKind } from "../abi.ts";
import { carry, type RangeOptions, type Source, type Target, type Transferred } from "../cargo.ts";
import { argumentError, checkInteger } from "../errors.ts";
import {
  callbackOf,
  launch,
  optionsOf,
  type Callback,
  type Operation,
  type OperationOptions,
} from "../operation.ts";
import { RegisteredBuffer } from "../registered.ts";
import { carryVectors } from "../vectors.ts";
import { ControlOperations, type File } from "./control.ts";

export interface TransferOptions extends OperationOptions, RangeOptions {
  /** Position in the file. Default: the descriptor's own, which moves on. */
  at?: number | undefined;
  /** RWF_ flags of preadv2(2). */
  flags?: number | undefined;
}

export interface VectorOptions extends OperationOptions {
  at?: number | undefined;
  flags?: number | undefined;
}

export interface SpliceOptions extends OperationOptions {
  /** Position to read at. Default: the descriptor's own; a pipe has none. */
  sourceAt?: number | undefined;
  /** Position to write at. */
  at?: number | undefined;
  /** SPLICE_F_ flags of splice(2). */
  flags?: number | undefined;
}

const WORDS = ARGUMENTS_WORDS;
const LENGTH_MAX = 0x7fff_f000;
const FLAGS_MAX = 0xffff_ffff;

/** A position that an f64 holds exactly; -1 stands for the descriptor's own. */
function position(kind: string, name: string, at: unknown): number {
  if (at === undefined) return -1;
  return checkInteger(kind, name, at, 0, Number.MAX_SAFE_INTEGER);
}

export function flagsOf(kind: string, flags: unknown): number {
  return flags === undefined ? 0 : checkInteger(kind, "flags", flags, 0, FLAGS_MAX);
}

export class FileOperations extends ControlOperations {
  /**
   * Reads into `buffer`: `{ bytes, buffer }`, 0 bytes at the end of the file. Callback:
   * `(result, buffer)`. See pread(2).
   */
  read<B extends Target>(
    fd: File,
    buffer: B,
    options?: TransferOptions | Callback<B>,
    callback?: Callback<B>,
  ): Operation<Transferred<B>> {
    const fixed = buffer instanceof RegisteredBuffer;
    const kind = fixed ? OperationKind.read_fixed : OperationKind.read;
    return this.#move("read", kind, fd, buffer, true, options, callback);
  }

  /**
   * Writes the bytes of `buffer`: `{ bytes, buffer }`; fewer than there are is no error. Callback:
   * `(result, buffer)`. See pwrite(2).
   */
  write<B extends Source>(
    fd: File,
    buffer: B,
    options?: TransferOptions | Callback<B>,
    callback?: Callback<B>,
  ): Operation<Transferred<B>> {
    const fixed = buffer instanceof RegisteredBuffer;
    const kind = fixed ? OperationKind.write_fixed : OperationKind.write;
    return this.#move("write", kind, fd, buffer, false, options, callback);
  }

  #move<B>(
    name: string,
    kind: OperationKind,
    fd: File,
    buffer: B,
    written: boolean,
    options: TransferOptions | Callback<B> | undefined,
    callback: Callback<B> | undefined,
  ): Operation<Transferred<B>> {
    const given = optionsOf(name, options as TransferOptions);
    const told = callbackOf(name, options, callback);
    const at = position(name, "at", given.at);
    const flags = flagsOf(name, given.flags);
    const cargo = carry(name, buffer, given, written);
    const descriptor = this.prepareFile(name, fd);
    this.memory.arguments.doubles[WORDS.offset] = at;
    this.memory.arguments.integers[WORDS.flags] = flags;
    return launch(this, kind, descriptor, cargo, given, told);
  }

  /** Reads into several buffers, one after the other. Callback: `(result, buffers)`. preadv(2) */
  readv<B extends Target>(
    fd: File,
    buffers: readonly B[],
    options?: VectorOptions | Callback<readonly B[]>,
    callback?: Callback<readonly B[]>,
  ): Operation<Transferred<readonly B[]>> {
    return this.#vectors("readv", OperationKind.readv, fd, buffers, true, options, callback);
  }

  /** Writes several buffers, one after the other. Callback: `(result, buffers)`. pwritev(2) */
  writev<B extends Source>(
    fd: File,
    buffers: readonly B[],
    options?: VectorOptions | Callback<readonly B[]>,
    callback?: Callback<readonly B[]>,
  ): Operation<Transferred<readonly B[]>> {
    return this.#vectors("writev", OperationKind.writev, fd, buffers, false, options, callback);
  }

  #vectors<B extends Source>(
    name: string,
    kind: OperationKind,
    fd: File,
    buffers: readonly B[],
    written: boolean,
    options: VectorOptions | Callback<readonly B[]> | undefined,
    callback: Callback<readonly B[]> | undefined,
  ): Operation<Transferred<readonly B[]>> {
    const given = optionsOf(name, options as VectorOptions);
    const told = callbackOf(name, options, callback);
    const at = position(name, "at", given.at);
    const flags = flagsOf(name, given.flags);
    const cargo = carryVectors(name, buffers, written);
    const descriptor = this.prepareFile(name, fd);
    this.memory.arguments.doubles[WORDS.offset] = at;
    this.memory.arguments.integers[WORDS.flags] = flags;
    return launch(this, kind, descriptor, cargo, given, told);
  }

  /** Data and metadata reach the device. Callback: `(result)`. fsync(2) */
  fsync(fd: File, options?: OperationOptions | Callback, callback?: Callback): Operation {
    return this.#simple("fsync", OperationKind.fsync, fd, options, callback);
  }

  /** Data reaches the device. Callback: `(result)`. fdatasync(2) */
  datasync(fd: File, options?: OperationOptions | Callback, callback?: Callback): Operation {
    return this.#simple("datasync", OperationKind.datasync, fd, options, callback);
  }

  #simple(
    name: string,
    kind: OperationKind,
    fd: File,
    options: OperationOptions | Callback | undefined,
    callback: Callback | undefined,
  ): Operation {
    const given = optionsOf(name, options);
    const told = callbackOf(name, options, callback);
    return launch(this, kind, this.prepareFile(name, fd), null, given, told);
  }

  /** Writes dirty pages of a range back; `flags` of sync_file_range(2). Callback: `(result)`. */
  syncFileRange(
    fd: File,
    offset: number,
    length: number,
    flags: number,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("syncFileRange", options);
    const told = callbackOf("syncFileRange", options, callback);
    const from = position("syncFileRange", "offset", offset ?? null);
    checkInteger("syncFileRange", "length", length, 0, LENGTH_MAX);
    const bits = flagsOf("syncFileRange", flags);
    const descriptor = this.prepareFile("syncFileRange", fd);
    const { integers, doubles } = this.memory.arguments;
    doubles[WORDS.offset] = from;
    integers[WORDS.length] = length;
    integers[WORDS.flags] = bits;
    return launch(this, OperationKind.sync_file_range, descriptor, null, given, told);
  }

  /** Reserves or frees space; `mode` of fallocate(2). Callback: `(result)`. */
  fallocate(
    fd: File,
    offset: number,
    length: number,
    options?: (OperationOptions & { mode?: number }) | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("fallocate", options as OperationOptions & { mode?: number });
    const told = callbackOf("fallocate", options, callback);
    const from = position("fallocate", "offset", offset ?? null);
    checkInteger("fallocate", "length", length, 1, Number.MAX_SAFE_INTEGER);
    const mode = checkInteger("fallocate", "mode", given.mode ?? 0, 0, FLAGS_MAX);
    const descriptor = this.prepareFile("fallocate", fd);
    const { integers, doubles } = this.memory.arguments;
    doubles[WORDS.offset] = from;
    doubles[WORDS.offset_second] = length;
    integers[WORDS.flags] = mode;
    return launch(this, OperationKind.fallocate, descriptor, null, given, told);
  }

  /** Sets the size of a file. Callback: `(result)`. ftruncate(2) */
  ftruncate(
    fd: File,
    length: number,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("ftruncate", options);
    const told = callbackOf("ftruncate", options, callback);
    checkInteger("ftruncate", "length", length, 0, Number.MAX_SAFE_INTEGER);
    const descriptor = this.prepareFile("ftruncate", fd);
    this.memory.arguments.doubles[WORDS.offset] = length;
    return launch(this, OperationKind.ftruncate, descriptor, null, given, told);
  }

  /**
   * Moves bytes between two descriptors within the kernel, one of them a pipe: their number.
   * Callback: `(result)`. splice(2)
   */
  splice(
    source: number,
    target: File,
    length: number,
    options?: SpliceOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("splice", options as SpliceOptions);
    const told = callbackOf("splice", options, callback);
    if (typeof source !== "number") {
      throw argumentError("splice", "source", "a descriptor", source);
    }
    checkInteger("splice", "source", source, 0, 0x7fff_ffff);
    checkInteger("splice", "length", length, 0, LENGTH_MAX);
    const sourceAt = position("splice", "sourceAt", given.sourceAt);
    const at = position("splice", "at", given.at);
    const flags = flagsOf("splice", given.flags);
    const descriptor = this.prepareFile("splice", target);
    const { integers, doubles } = this.memory.arguments;
    integers[WORDS.fd_second] = source;
    doubles[WORDS.offset] = at;
    doubles[WORDS.offset_second] = sourceAt;
    integers[WORDS.length] = length;
    integers[WORDS.flags] = flags;
    return launch(this, OperationKind.splice, descriptor, null, given, told);
  }
}
