// Echo on this library with the thread given to the ring: `ring.run()`.
//
// Usage: `bun bun_uring_dedicated.ts PORT`. Prints `listening PORT`.
import { listen, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

const server = listen({
  hostname: "127.0.0.1",
  port: portArgument(),
  allowHalfOpen: true,
  socket: echoHandlers<Socket>(),
});
console.log(`listening ${server.port}`);
await server.ring.run();
