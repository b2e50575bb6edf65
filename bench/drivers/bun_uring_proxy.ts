// A proxy of ten lines on this library: every connection goes on to an echo server on loopback.
//
// Usage: `bun bun_uring_proxy.ts PORT UPSTREAM`. Prints `listening PORT`.
import { connect, listen, proxy } from "bun-uring";
import { portArgument } from "./echo_handlers.ts";

const target = { hostname: "127.0.0.1", port: Number(process.argv[3]), socket: {} };
const server = listen({
  hostname: "127.0.0.1",
  port: portArgument(),
  allowHalfOpen: true,
  socket: {
    async open(client) {
      await proxy(client, await connect(target)).catch(() => client.terminate());
    },
  },
});
console.log(`listening ${server.port}`);
