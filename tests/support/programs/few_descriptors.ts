// An echo server in a process that may open few files, until its input ends. Prints its port, and
// at the end how many accepts failed for want of a descriptor.

import { listen, Ring, type Socket } from "../../../ts/index.ts";

// Open before anything else: reading it takes descriptors of its own.
const input = Bun.stdin.stream().getReader();
const ended = input.read();
await new Promise((resolve) => setImmediate(resolve));
const listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) },
});
console.log(listener.port);
await ended;
const failed = Ring.default.stats().accepts_failed;
listener.stop(true);
console.log(failed);
