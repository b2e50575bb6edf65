// Sockets that are closed or unref'ed do not keep the process.
// What was sent leaves before.

import { udpSocket } from "../../../ts/index.ts";

const got = Promise.withResolvers<void>();
const receiver = await udpSocket({
  hostname: "127.0.0.1",
  socket: { data: () => got.resolve() },
});
const sender = await udpSocket({ hostname: "127.0.0.1" });
(await udpSocket()).unref();
sender.send("x", receiver.port, "127.0.0.1");
sender.close();
await got.promise;
receiver.close();
console.log("sent");
