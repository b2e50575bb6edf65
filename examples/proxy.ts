// Proxy: passes every connection on to another address, both ways, without touching a byte.
//
// Shows: `proxy`, which leaves the bytes to the library; half-closes and broken peers pass through
// as they come. A client that sends before the upstream answers waits in the receive buffers.
//
//   run it   bun examples/proxy.ts --port 7000 --to 127.0.0.1:8000
//   try it   nc 127.0.0.1 7000                         stop it with Ctrl-C

import { connect, listen, proxy, type Socket } from "bun-uring";
import { parseArgs } from "node:util";

const USAGE = "usage: bun examples/proxy.ts [--port 7000] --to HOST:PORT";

async function pass(client: Socket, hostname: string, port: number): Promise<void> {
  const from = client.remoteAddress;
  const upstream = await connect({ hostname, port, socket: {} });
  const { sent, received } = await proxy(client, upstream);
  console.log(`${from}: ${sent} bytes there, ${received} back`);
}

try {
  const { values } = parseArgs({
    options: { port: { type: "string", default: "7000" }, to: { type: "string" } },
  });
  const [hostname = "", port = ""] = values.to?.split(":") ?? [];
  if (hostname === "" || port === "") throw new Error(USAGE);
  const server = listen({
    hostname: "127.0.0.1",
    port: Number(values.port || NaN),
    allowHalfOpen: true, // a client may end before the upstream is there
    socket: {
      open(client) {
        pass(client, hostname, Number(port)).catch((error: Error) => {
          console.error(error.message);
          client.terminate();
        });
      },
    },
  });
  console.log(`proxy on ${server.hostname}:${server.port} to ${values.to}`);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => server.stop());
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
