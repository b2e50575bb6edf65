// What holds a process: does what its arguments name and nothing else, and prints what completes.
// A process that nothing holds ends by itself; one that is held ends itself with 3.

import { listen, Ring } from "../../../ts/index.ts";
import { pipe } from "../operations.ts";

const ring = new Ring();

const STEPS: Record<string, () => unknown> = {
  timer: () => ring.timeout(60_000),
  "timer unref": () => ring.timeout(60_000).unref(),
  "timer unref ref": () => ring.timeout(60_000).unref().ref(),
  "timer soon": () => ring.timeout(20, () => console.log("timer")),
  "timer soon unref": () => ring.timeout(20, () => console.log("timer")).unref(),
  "interval": () => ring.interval(60_000, () => {}),
  "interval unref": () => ring.interval(5, () => {}).unref(),
  "interval unref ref": () => ring.interval(60_000, () => {}).unref().ref(),
  poll: () => ring.poll(pipe().fd, "read"),
  "poll unref": () => ring.poll(pipe().fd, "read").unref(),
  listener: () => listen({ hostname: "127.0.0.1", port: 0, ring, socket: { data() {} } }),
  "ring unref": () => ring.unref(),
  "ring ref": () => ring.ref(),
  run: () => void ring.run(),
  "stop soon"() {
    const timer = setInterval(() => {
      clearInterval(timer);
      ring.stop();
    }, 30);
  },
  cancel: () => ring.cancelAll(),
  "bun timer": () => setInterval(() => process.exit(0), 100),
};

for (const step of process.argv.slice(2)) STEPS[step]?.();

setInterval(() => process.exit(3), 500).unref();
