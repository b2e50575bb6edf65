// Echo on this library with room for very many connections. SIGUSR1 collects garbage, so that what
// the process holds can be looked at.
//
// Usage: `bun bun_uring_idle.ts PORT CONNECTIONS`. Prints `listening PORT`.
import { listen, Ring, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

const connections = Number(process.argv[3]);
const server = listen({
  hostname: "0.0.0.0", // all of 127.0.0.0/8
  port: portArgument(),
  allowHalfOpen: true,
  ring: new Ring({ connections: connections + 500 }),
  socket: echoHandlers<Socket>(),
});
process.on("SIGUSR1", () => {
  Bun.gc(true);
  Bun.shrink();
});
console.log(`listening ${server.port}`);
