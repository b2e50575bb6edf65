// A data handler that throws, without an error handler: the process hears of it, the next datagram
// is delivered all the same.

import { udpSocket } from "../../../ts/index.ts";

let heard = "";
const second = Promise.withResolvers<string>();
process.on("uncaughtException", (error) => {
  heard = error.message;
});
using socket = await udpSocket({
  hostname: "127.0.0.1",
  socket: {
    data(_socket, data) {
      if (String(data) === "first") throw new Error("thrown");
      second.resolve(String(data));
    },
  },
});
socket.send("first", socket.port, "127.0.0.1");
socket.send("second", socket.port, "127.0.0.1");
const then = await second.promise;
await new Promise((resolve) => setImmediate(resolve));
console.log(`uncaught: ${heard}; then: ${then}`);
