// An echo server in a process that may open few files, until its input ends. Prints its port, and
// at the end how many accepts failed for want of a descriptor. Argument "serve": in a Worker, with
// connections that are handed over.

import { listen, Ring, serve, type Socket } from "../../../ts/index.ts";
import { program } from "../child.ts";

// Open before anything else: reading it takes descriptors of its own.
const input = Bun.stdin.stream().getReader();
const ended = input.read();
await new Promise((resolve) => setImmediate(resolve));
const place = { hostname: "127.0.0.1", port: 0 };
let told = 0;
const listener = process.argv[2] === "serve"
  ? await serve({
    ...place,
    module: program("echo_service"),
    workers: 1,
    distribution: "round-robin",
    onError: (error) => void (error.message.startsWith("EMFILE") && told++),
  })
  : listen({
    ...place,
    socket: { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) },
  });
console.log(listener.port);
await ended;
const failed = told + Ring.default.stats().accepts_failed;
await listener.stop(true);
console.log(failed);
