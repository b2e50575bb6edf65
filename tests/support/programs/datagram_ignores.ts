// Datagrams to a port where nobody listens, without an error handler: UDP may lose anything, and
// the network's answers end nothing.

import { udpSocket } from "../../../ts/index.ts";

const gone = await udpSocket({ hostname: "127.0.0.1" });
const { port } = gone;
using client = await udpSocket({ connect: { hostname: "127.0.0.1", port } });
gone.close();
for (let round = 0; round < 20; round++) {
  client.send("nobody");
  await new Promise((resolve) => setImmediate(resolve));
}
const got = Promise.withResolvers<void>();
using back = await udpSocket({
  hostname: "127.0.0.1",
  port,
  socket: { data: () => got.resolve() },
});
client.send("somebody");
await got.promise;
console.log(back.port === port ? "went on" : "another port");
