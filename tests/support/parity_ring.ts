// One script for rings, run on io_uring and on its twin: what each call gave or threw, in order. A
// script of calls that files have in Node as well takes `FileCalls`, and runs on node:fs besides.

import { promises as fs } from "node:fs";
import { Ring, type UringError } from "../../ts/index.ts";
import { show } from "./parity.ts";

export class Log {
  readonly lines: string[] = [];

  say(line: string): void {
    this.lines.push(line);
  }

  /** What a call gives, or the code that it throws or rejects with. */
  async note(what: string, call: () => unknown): Promise<void> {
    try {
      this.say(`${what} = ${shown(await call())}`);
    } catch (error) {
      this.say(`${what} threw ${(error as UringError).code ?? String(error)}`);
    }
  }
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
  return show(value);
}

export interface RingScript {
  name: string;
  run(ring: Ring, log: Log): Promise<void>;
}

export async function played(backend: "uring" | "epoll", script: RingScript): Promise<string[]> {
  const log = new Log();
  const ring = new Ring({ backend });
  try {
    await script.run(ring, log);
  } finally {
    await ring.close({ cancel: true });
  }
  return log.lines;
}

/** What files can do by the ring and by node:fs alike. */
export interface FileCalls {
  open(path: string, flags: string): Promise<number>;
  close(fd: number): Promise<unknown>;
  read(fd: number, bytes: Uint8Array, at: number): Promise<number>;
  write(fd: number, text: string, at: number): Promise<number>;
  writev(fd: number, parts: readonly Uint8Array[], at: number): Promise<number>;
  sync(fd: number): Promise<unknown>;
  truncate(fd: number, length: number): Promise<unknown>;
  size(path: string): Promise<number>;
  rename(from: string, to: string): Promise<unknown>;
  link(from: string, to: string): Promise<unknown>;
  symlink(target: string, path: string): Promise<unknown>;
  mkdir(path: string): Promise<unknown>;
  unlink(path: string): Promise<unknown>;
}

export function callsOfRing(ring: Ring): FileCalls {
  return {
    open: (path, flags) => Promise.resolve(ring.openat(path, flags as "r")),
    close: (fd) => Promise.resolve(ring.close(fd)),
    read: async (fd, bytes, at) => (await ring.read(fd, bytes, { at })).bytes,
    write: async (fd, text, at) => (await ring.write(fd, text, { at })).bytes,
    writev: async (fd, parts, at) => (await ring.writev(fd, parts, { at })).bytes,
    sync: async (fd) => [await ring.fsync(fd), await ring.datasync(fd)],
    truncate: (fd, length) => Promise.resolve(ring.ftruncate(fd, length)),
    size: async (path) => Number((await ring.statx(path)).size),
    rename: (from, to) => Promise.resolve(ring.rename(from, to)),
    link: (from, to) => Promise.resolve(ring.link(from, to)),
    symlink: (target, path) => Promise.resolve(ring.symlink(target, path)),
    mkdir: (path) => Promise.resolve(ring.mkdir(path)),
    unlink: (path) => Promise.resolve(ring.unlink(path)),
  };
}

/** By handles, which stay open until they are closed; what the ring answers with 0 is 0 here. */
export function callsOfNode(): FileCalls & AsyncDisposable {
  const handles = new Map<number, fs.FileHandle>();
  const of = (fd: number) => {
    const handle = handles.get(fd);
    if (handle === undefined) throw Object.assign(new Error("closed"), { code: "EBADF" });
    return handle;
  };
  const done = (promise: Promise<unknown>) => promise.then(() => 0);
  return {
    async open(path, flags) {
      const handle = await fs.open(path, flags);
      handles.set(handle.fd, handle);
      return handle.fd;
    },
    async close(fd) {
      await of(fd).close();
      handles.delete(fd);
      return 0;
    },
    read: async (fd, bytes, at) => (await of(fd).read(bytes, 0, bytes.length, at)).bytesRead,
    write: async (fd, text, at) => (await of(fd).write(text, at)).bytesWritten,
    writev: async (fd, parts, at) => (await of(fd).writev([...parts], at)).bytesWritten,
    async sync(fd) {
      await of(fd).sync();
      await of(fd).datasync();
      return [0, 0];
    },
    truncate: async (fd, length) => done(of(fd).truncate(length)),
    size: async (path) => (await fs.stat(path)).size,
    rename: (from, to) => done(fs.rename(from, to)),
    link: (from, to) => done(fs.link(from, to)),
    symlink: (target, path) => done(fs.symlink(target, path)),
    mkdir: (path) => done(fs.mkdir(path)),
    unlink: (path) => done(fs.unlink(path)),
    async [Symbol.asyncDispose]() {
      for (const handle of handles.values()) await handle.close();
    },
  };
}
