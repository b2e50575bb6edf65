// Echo on this library in Workers, each with a ring of its own; connections go to them in turn, so
// that each has as many.
//
// Usage: `bun bun_uring_workers.ts PORT WORKERS`. Prints `listening PORT`.
import { isMainThread } from "node:worker_threads";
import { serve, type Service, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

export default {
  allowHalfOpen: true,
  socket: echoHandlers<Socket>(),
} satisfies Service;

if (isMainThread) {
  const server = await serve({
    module: import.meta.url,
    hostname: "127.0.0.1",
    port: portArgument(),
    workers: Number(process.argv[3] ?? 2),
    distribution: "round-robin",
  });
  console.log(`listening ${server.port}`);
}
