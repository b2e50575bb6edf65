// Echo on this library with borrowed chunks: large ones are read where the kernel put them.
//
// Usage: `bun bun_uring_borrowed.ts PORT`. Prints `listening PORT`.
import { listen, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

const server = listen({
  hostname: "127.0.0.1",
  port: portArgument(),
  allowHalfOpen: true,
  socket: { binaryType: "borrowed", ...echoHandlers<Socket>() },
});
console.log(`listening ${server.port}`);
