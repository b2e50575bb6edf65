// Echo on this library's epoll twin, each chunk a private copy: what it costs without io_uring.
//
// Usage: `bun bun_epoll.ts PORT`. Prints `listening PORT`.
import { listen, Ring, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

const server = listen({
  ring: new Ring({ backend: "epoll" }),
  hostname: "127.0.0.1",
  port: portArgument(),
  allowHalfOpen: true,
  socket: echoHandlers<Socket>(),
});
console.log(`listening ${server.port}`);
