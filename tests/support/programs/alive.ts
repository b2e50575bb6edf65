// What keeps a process alive: opens what its argument says and prints the port, if there is one. A
// connection that sends "quit" makes it close everything; then it has to end by itself.

import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";
import { End } from "../pair.ts";
import { turns } from "../until.ts";

process.on("exit", () => console.log("exit"));

const connections = new Set<Socket>();
const serve = () => listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open: (socket: Socket) => void connections.add(socket),
    data(socket: Socket, chunk: Buffer) {
      if (chunk.toString() === "quit") {
        server.stop(true);
        return;
      }
      socket.write(chunk);
    },
  },
});
const server = serve();
const dial = (end: End) =>
  connect({ hostname: "127.0.0.1", port: server.port, socket: end.handlers });

/** Nothing of ours holds the process from here on. */
function unrefAll(client: Socket): void {
  server.unref();
  client.unref();
  for (const connection of connections) connection.unref();
}

/** Held: a ring that is collected open says so. */
const held: Ring[] = [];

const CASES: Record<string, () => Promise<void> | void> = {
  /** A ring that was never used. */
  async nothing() {
    server.stop();
    held.push(new Ring());
  },
  /** Everything used and closed. */
  async closed() {
    const end = new End();
    const client = await dial(end);
    client.write("x");
    await end.received(1);
    client.end();
    await end.closed.promise;
    server.stop();
  },
  async unref() {
    const end = new End();
    const client = await dial(end);
    client.write("x");
    await end.received(1);
    unrefAll(client);
  },
  /** Unref'ed before the loop has turned once. */
  "unref at once"() {
    server.unref();
  },
  /** Unref'ed things serve while a timer of Bun's holds the process. */
  async "unref and a timer"() {
    const end = new End();
    const client = await dial(end);
    client.write("x");
    await end.received(1);
    unrefAll(client);
    let ticks = 0;
    const timer = setInterval(() => {
      client.write("y");
      if (++ticks < 5 || end.length < 4) return;
      clearInterval(timer);
      console.log("served");
    }, 20);
  },
  serving() {
    console.log(server.port);
  },
  "ref again at once"() {
    server.unref();
    server.ref();
    console.log(server.port);
  },
  /** In the first turns after it the loop still spins. */
  async "ref again while it spins"() {
    server.unref();
    setImmediate(() => {
      setImmediate(() => {
        server.ref();
        console.log(server.port);
      });
    });
  },
  async "ref again while it rests"() {
    server.unref();
    await turns(100);
    server.ref();
    console.log(server.port);
  },
  /** Only a connect under way holds the process. */
  async connecting() {
    server.unref();
    const end = new End();
    void dial(end).then((client) => {
      console.log("connected");
      client.terminate();
      server.stop(true);
    });
  },
  async "ring closed"() {
    const end = new End();
    await dial(end);
    await server.ring.close();
  },
};

await CASES[process.argv[2] ?? ""]?.();
