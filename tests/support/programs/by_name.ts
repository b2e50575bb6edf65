// Imports the package as its users do, by its name, and echoes a few bytes with it.
// Prints the names that it exports and what came back.

import * as uring from "bun-uring";

const { promise, resolve } = Promise.withResolvers<string>();
using listener = uring.listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: { data: (socket, chunk) => void socket.end(chunk) },
});
using socket = await uring.connect({
  hostname: "127.0.0.1",
  port: listener.port,
  socket: { data: (_socket, chunk) => resolve(chunk.toString()) },
});
socket.write("by name");
console.log(JSON.stringify({ names: Object.keys(uring).sort(), echoed: await promise }));
