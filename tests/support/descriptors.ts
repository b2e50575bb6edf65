// What the process holds, as the kernel tells it in /proc: descriptors, mappings, socket options.
// Linux only, as is everything here.

import { dlopen, ptr } from "bun:ffi";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Numbers of the open descriptors. */
export function descriptors(): number[] {
  // Reading the directory takes a descriptor itself, in every call alike.
  return readdirSync("/proc/self/fd").map(Number);
}

/** How many mappings the process has. */
export function mappingCount(): number {
  return mappings().length;
}

export interface Mapping {
  from: number;
  to: number;
  name: string;
}

export function mappings(): Mapping[] {
  const lines = readFileSync("/proc/self/maps", "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [range = "", , , , , name = ""] = line.split(/\s+/);
    const [from = "", to = ""] = range.split("-");
    return { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16), name };
  });
}

/** Bytes of memory that rings have mapped: slabs are kept from forks, kernel rings have a name. */
export function ringBytes(): number {
  const blocks = readFileSync("/proc/self/smaps", "utf8").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const own = blocks.filter((block) => {
    return /^VmFlags:.*\bdc\b/m.test(block) || block.includes("[io_uring]");
  });
  return own.reduce((sum, block) => sum + 1024 * Number(/^Size:\s+(\d+)/m.exec(block)?.[1]), 0);
}

/** Resident memory in bytes, without the pages of files: the engine's own code comes and goes. */
export function residentBytes(): number {
  const status = readFileSync("/proc/self/status", "utf8");
  const of = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]);
  return 1024 * (of("RssAnon") + of("RssShmem"));
}

/** The descriptor of this process' TCP/IPv4 socket with these ports. */
export function descriptorOf(localPort: number, remotePort: number): number {
  const inode = rowOf(localPort, remotePort)[9];
  for (const descriptor of descriptors()) {
    if (linkOf(descriptor) === `socket:[${inode}]`) return descriptor;
  }
  throw new Error(`no descriptor for port ${localPort}`);
}

/** What a descriptor names, or null if it was closed meanwhile. */
export function linkOf(descriptor: number): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch (error) {
    // The one that read the directory is gone by now.
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw error;
  }
}

/** The socket's columns in /proc/net/tcp: proc_net_tcp in the kernel's documentation. */
function rowOf(localPort: number, remotePort: number): string[] {
  const portOf = (address = "") => Number.parseInt(address.split(":")[1] ?? "", 16);
  const rows = readFileSync("/proc/net/tcp", "utf8").trimEnd().split("\n").slice(1);
  for (const row of rows.map((line) => line.trim().split(/\s+/))) {
    if (portOf(row[1]) === localPort && portOf(row[2]) === remotePort) return row;
  }
  throw new Error(`no connection from port ${localPort} to port ${remotePort}`);
}

const { symbols: libc } = dlopen("libc.so.6", {
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  getsockopt: { args: ["i32", "i32", "i32", "ptr", "ptr"], returns: "i32" },
  setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" },
});

const EFD_NONBLOCK = 0o4000;

/** A counter of the caller's to close, that blocks or, as a ring's, does not: eventfd(2). */
export function eventfd(blocks = true): number {
  const descriptor = libc.eventfd(0, blocks ? 0 : EFD_NONBLOCK);
  if (descriptor < 0) throw new Error("eventfd failed");
  return descriptor;
}

export const SOL_SOCKET = 1;
export const SO_KEEPALIVE = 9;
export const IPPROTO_TCP = 6;
export const TCP_NODELAY = 1;
export const TCP_KEEPIDLE = 4;

/** An integer option: getsockopt(2). */
export function socketOption(descriptor: number, level: number, name: number): number {
  const value = new Int32Array(new ArrayBuffer(4));
  const size = new Uint32Array(new ArrayBuffer(4)).fill(4);
  const outcome = libc.getsockopt(descriptor, level, name, ptr(value), ptr(size));
  if (outcome !== 0) throw new Error(`getsockopt ${level} ${name} failed`);
  return value[0] ?? 0;
}
