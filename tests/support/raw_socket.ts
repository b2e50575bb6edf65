// Sockets by plain system calls, for what neither end of a test's connection would do: descriptors
// to hand over, and a listener that lets nobody in.

import { dlopen, ptr } from "bun:ffi";
import { closeSync } from "node:fs";

const { symbols: libc } = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  socketpair: { args: ["i32", "i32", "i32", "ptr"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  listen: { args: ["i32", "i32"], returns: "i32" },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" },
  getsockname: { args: ["i32", "ptr", "ptr"], returns: "i32" },
});

const AF_UNIX = 1;
const AF_INET = 2;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_NONBLOCK = 0o4000;
const SOCKADDR_IN_SIZE = 16;

function checked(result: number, call: string): number {
  if (result < 0) throw new Error(`${call} failed`);
  return result;
}

/** sockaddr_in of 127.0.0.1, see ip(7). */
function loopback(port: number): Uint8Array {
  const address = new Uint8Array(SOCKADDR_IN_SIZE);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port);
  address.set([127, 0, 0, 1], 4);
  return address;
}

/** A TCP or UDP socket on 127.0.0.1; 0 is any free port. */
export function boundSocket(kind: number, port = 0): { fd: number; port: number } {
  const fd = checked(libc.socket(AF_INET, kind, 0), "socket");
  checked(libc.bind(fd, ptr(loopback(port)), SOCKADDR_IN_SIZE), "bind");
  const name = new Uint8Array(SOCKADDR_IN_SIZE);
  const length = new Uint32Array([SOCKADDR_IN_SIZE]);
  checked(libc.getsockname(fd, ptr(name), ptr(length)), "getsockname");
  return { fd, port: new DataView(name.buffer).getUint16(2) };
}

/** A TCP socket that is neither bound nor connected. */
export function freshSocket(kind = SOCK_STREAM): number {
  return checked(libc.socket(AF_INET, kind, 0), "socket");
}

/** Two connected Unix sockets. */
export function socketPair(kind = SOCK_STREAM): [number, number] {
  const fds = new Int32Array(2);
  checked(libc.socketpair(AF_UNIX, kind, 0, ptr(fds)), "socketpair");
  return [fds[0] as number, fds[1] as number];
}

/** A socket that is connected, to one that is closed. */
export function endOfPair(kind = SOCK_STREAM): number {
  const [end, other] = socketPair(kind);
  closeSync(other);
  return end;
}

/** A port whose queue is full, of which nobody accepts: connecting to it gets no answer. */
export function silentPort(): { port: number } & Disposable {
  const { fd, port } = boundSocket(SOCK_STREAM);
  checked(libc.listen(fd, 0), "listen");
  const waiting: number[] = [];
  for (let i = 0; i < 3; i++) {
    const client = checked(libc.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    libc.connect(client, ptr(loopback(port)), SOCKADDR_IN_SIZE); // EINPROGRESS
    waiting.push(client);
  }
  return { port, [Symbol.dispose]: () => [...waiting, fd].forEach((one) => closeSync(one)) };
}
