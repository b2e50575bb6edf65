// A server with one idle connection, ours, ours with the thread given to the ring, or Bun's own,
// or Bun's own beside unref'ed timers of ours, that says when it is ready and then does nothing
// until it is killed.

import { Ring } from "../../../ts/index.ts";
import { pair } from "../pair.ts";

if (process.argv[2] === "ours" || process.argv[2] === "dedicated") {
  await pair();
  Ring.default.timeout(600_000);
  Ring.default.interval(600_000, () => {});
  if (process.argv[2] === "dedicated") void Ring.default.run();
} else {
  if (process.argv[2] === "unref") {
    Ring.default.timeout(600_000).unref();
    Ring.default.interval(600_000, () => {}).unref();
  }
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  await Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data() {} } });
}
console.log("ready");
