// Echo on Bun.listen: what the library wants to be better than.
//
// Usage: `bun bun_listen.ts PORT`. Prints `listening PORT`.
import type { Socket } from "bun";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

const { data, drain, end, close, error } = echoHandlers<Socket>();
const server = Bun.listen({
  hostname: "127.0.0.1",
  port: portArgument(),
  allowHalfOpen: true,
  socket: {
    open: (socket) => void socket.setNoDelay(true),
    data,
    drain,
    end,
    close,
    error,
  },
});
console.log(`listening ${server.port}`);
