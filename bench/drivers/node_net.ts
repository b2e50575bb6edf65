// Echo on node:net: what most programs use today. It runs under Bun and, with its types stripped,
// Node.
//
// Usage: `bun node_net.ts PORT`. Prints `listening PORT`.
import { createServer, type AddressInfo } from "node:net";

const port = Number(process.argv[2] ?? 0);
const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket.on("data", (chunk) => {
    if (!socket.write(chunk)) socket.pause();
  });
  socket.on("drain", () => socket.resume());
  socket.on("end", () => socket.end());
  socket.on("error", (error) => {
    console.error(error.message);
    socket.destroy();
  });
});
server.listen(port, "127.0.0.1", 4096, () => {
  console.log(`listening ${(server.address() as AddressInfo).port}`);
});
