// A server with one idle connection, ours or Bun's own, that says when it is ready and then does
// nothing until it is killed.

import { pair } from "../pair.ts";

if (process.argv[2] === "ours") {
  await pair();
} else {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data() {} } });
}
console.log("ready");
