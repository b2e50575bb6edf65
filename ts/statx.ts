// What statx(2) answers: its record taken apart.
//
// The layout is the kernel's, the same on every architecture: `struct statx` in linux/stat.h, 256
// bytes. Numbers beyond 2^53 lose their last digits, which only device attributes ever reach.

import type { Cargo } from "./operation.ts";
import type { Engine } from "./engine.ts";
import { native } from "./native.ts";

/** Times are milliseconds since 1970, with a fraction. */
export interface FileStatus {
  mask: number;
  blockSize: number;
  attributes: number;
  links: number;
  uid: number;
  gid: number;
  /** Type and permissions: inode(7). */
  mode: number;
  inode: number;
  size: number;
  /** Blocks of 512 bytes. */
  blocks: number;
  accessed: number;
  born: number;
  changed: number;
  modified: number;
  device: { major: number; minor: number };
  isFile: boolean;
  isDirectory: boolean;
  isSymbolicLink: boolean;
}

const SIZE = 256;
/** Byte offsets in `struct statx`. */
const AT = {
  mask: 0, blockSize: 4, attributes: 8, links: 16, uid: 20, gid: 24, mode: 28, inode: 32, size: 40,
  blocks: 48, accessed: 64, born: 80, changed: 96, modified: 112, major: 136, minor: 140,
} as const;
const TYPE_MASK = 0o170000;
const TYPES = { file: 0o100000, directory: 0o040000, symbolicLink: 0o120000 } as const;

export class StatusCargo implements Cargo<FileStatus> {
  readonly input: Uint8Array;
  readonly buffer = undefined;
  #status: FileStatus | null = null;

  constructor(path: Uint8Array) {
    this.input = path;
  }

  // Paths and answers are in native memory.
  board(): void {}
  orphan(): void {}

  land(engine: Engine, index: number, result: number): number {
    if (result < 0 || index < 0) return result;
    const bytes = new Uint8Array(SIZE);
    const outcome = native.bu_operation_read(engine.handle, index, bytes, SIZE);
    if (outcome < 0) return outcome;
    this.#status = readStatus(bytes);
    return result;
  }

  value(): FileStatus {
    return this.#status as FileStatus;
  }

  detail(): FileStatus | null {
    return this.#status;
  }
}

function readStatus(bytes: Uint8Array): FileStatus {
  const view = new DataView(bytes.buffer);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  const time = (at: number) => Number(view.getBigInt64(at, true)) * 1000 + u32(at + 8) / 1e6;
  const mode = view.getUint16(AT.mode, true);
  const type = mode & TYPE_MASK;
  return {
    mask: u32(AT.mask),
    blockSize: u32(AT.blockSize),
    attributes: u64(AT.attributes),
    links: u32(AT.links),
    uid: u32(AT.uid),
    gid: u32(AT.gid),
    mode,
    inode: u64(AT.inode),
    size: u64(AT.size),
    blocks: u64(AT.blocks),
    accessed: time(AT.accessed),
    born: time(AT.born),
    changed: time(AT.changed),
    modified: time(AT.modified),
    device: { major: u32(AT.major), minor: u32(AT.minor) },
    isFile: type === TYPES.file,
    isDirectory: type === TYPES.directory,
    isSymbolicLink: type === TYPES.symbolicLink,
  };
}
