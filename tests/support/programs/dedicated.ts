// A thread that is given to the ring: `ring.run()`, with what its arguments name beside it. Prints
// what it measured as its last line, and ends because it is stopped.

import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";

const [load = "idle"] = process.argv.slice(2);
const ring = new Ring();
/** Enough to tell a machine that is busy now and then from a loop that waits. */
const TICKS = 40;
const late: number[] = [];
let messages = 0;
let exchanges = 0;
let immediates = 0;

/** Echoes between two ends of this ring, as fast as they go. */
async function echo(): Promise<void> {
  const listener = listen({
    hostname: "127.0.0.1",
    port: 0,
    ring,
    socket: { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) },
  });
  const data = (socket: Socket, chunk: Buffer) => {
    messages++;
    socket.write(chunk);
  };
  const clients = Array.from({ length: 8 }, () => {
    return connect({ hostname: "127.0.0.1", port: listener.port, ring, socket: { data } });
  });
  for (const client of await Promise.all(clients)) client.write("x".repeat(64));
}

/** Bun's own sockets, one message at a time. */
function exchange(): void {
  const server = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, chunk) => void socket.write(chunk) },
  });
  const data = (socket: { write(chunk: Uint8Array): number }, chunk: Uint8Array) => {
    exchanges++;
    socket.write(chunk);
  };
  void Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data } })
    .then((socket) => socket.write("x"));
}

function immediate(): void {
  immediates++;
  setImmediate(immediate);
}

/** A timer of Bun's: what it is late by. */
function tick(): void {
  const due = performance.now() + 10;
  const timer = setInterval(() => {
    clearInterval(timer);
    late.push(performance.now() - due);
    if (late.length < TICKS) tick();
    else ring.stop();
  }, 10);
}

if (load === "echo" || load === "both") await echo();
if (load === "exchange" || load === "both") exchange();
if (load === "ticking") {
  ring.interval(2, () => {}); // never idle, and mostly waiting
  exchange();
}
if (load === "immediates") immediate();
tick();
const handled = await ring.run();
late.sort((a, b) => a - b);
const quartileMs = late[late.length >> 2];
console.log(JSON.stringify({
  quartileMs, messages, exchanges, immediates, handled,
}));
process.exit(0);
