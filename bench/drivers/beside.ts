// An echo server with a neighbour in the same process: who gets what when the echo is busy.
//
// Usage: `bun beside.ts PORT bun_uring|bun_listen NEIGHBOUR REPORT`. Prints `listening PORT`. On
// SIGTERM it writes to the file REPORT, as JSON, what the neighbour achieved: a list of
// `{ at, count }`, milliseconds and works done since the start, and for "timer" how late each was.
import { readFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { listen, type Socket } from "bun-uring";
import { echoHandlers, portArgument } from "./echo_handlers.ts";

export interface BesideReport {
  marks: { at: number; count: number }[];
  /** Milliseconds by which each 10 ms timer was late, and when it was due. */
  late: { at: number; ms: number }[];
}

/** Works that a neighbour has under way at a time. */
const DEPTH = 8;
const PERIOD_MS = 10;
const report: BesideReport = { marks: [], late: [] };
let count = 0;

/** Each keeps `DEPTH` works going for ever; a failure ends the process. */
const neighbours: Record<string, () => void> = {
  timer() {
    let due = performance.now() + PERIOD_MS;
    setTimeout(function fire() {
      const now = performance.now();
      report.late.push({ at: due, ms: now - due });
      count++;
      due = now + PERIOD_MS;
      setTimeout(fire, PERIOD_MS);
    }, PERIOD_MS);
  },

  fetch() {
    const server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("ok") });
    repeat(async () => {
      const response = await fetch(server.url);
      if ((await response.text()) !== "ok") throw new Error("fetch: a wrong answer");
    });
  },

  listen() {
    const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: echoHandlers() });
    for (let i = 0; i < DEPTH; i++) {
      void Bun.connect({
        hostname: "127.0.0.1",
        port: server.port,
        socket: {
          open: (socket) => void socket.write("ping"),
          data(socket) {
            count++;
            socket.write("ping");
          },
        },
      });
    }
  },

  files() {
    repeat(async () => {
      const bytes = await readFile(import.meta.path);
      if (bytes.length === 0) throw new Error("files: nothing was read");
    });
  },
};

function repeat(work: () => Promise<void>): void {
  for (let i = 0; i < DEPTH; i++) {
    void (async () => {
      for (;;) {
        await work();
        count++;
      }
    })();
  }
}

const [, , , echo, neighbour = "", path = ""] = process.argv;
const options = { hostname: "127.0.0.1", port: portArgument(), allowHalfOpen: true };
const server = echo === "bun_uring"
  ? listen({ ...options, socket: echoHandlers<Socket>() })
  : Bun.listen({ ...options, socket: echoHandlers() });

neighbours[neighbour]?.();
setInterval(() => report.marks.push({ at: performance.now(), count }), PERIOD_MS);
process.on("SIGTERM", () => {
  writeFileSync(path, JSON.stringify(report));
  process.exit(0);
});
console.log(`listening ${server.port}`);
