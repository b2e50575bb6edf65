// A server of two Workers that heeds signals, on what the service manager has passed or on a free
// port. Prints the port, the descriptor's name, and what is left in the environment.
//
// Arguments: what `stop` waits for, milliseconds; "listen" for `listen` in the place of `serve`;
// "handler" for one more handler of SIGTERM, which does nothing; "stuck" for a module that never
// begins.

import { listen, listenFds, serve, type Socket } from "../../../ts/index.ts";
import { program } from "../child.ts";
import { until } from "../until.ts";

const [stopTimeout, what] = process.argv.slice(2);
const [activated] = listenFds();
const where = activated ?? { hostname: "127.0.0.1", port: 0 };
const left = [listenFds().length, process.env["LISTEN_FDS"], process.env["LISTEN_PID"]].join();

const stuck = "data:text/javascript,await new Promise(() => {});";
if (what === "stuck") {
  void until(() => process.listenerCount("SIGTERM") > 0).then(() => console.log("0 none ,,"));
}
if (what === "handler") process.on("SIGTERM", () => {});
const socket = { data: (peer: Socket, chunk: Buffer) => void peer.write(chunk) };
const server = what === "listen"
  ? listen({ ...where, socket })
  : await serve({
    ...where,
    module: what === "stuck" ? stuck : program("echo_service"),
    workers: 2,
    stopTimeout: Number(stopTimeout),
    signals: true,
  });
console.log([server.port, activated?.name ?? "none", left].join(" "));
