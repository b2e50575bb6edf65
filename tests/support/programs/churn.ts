// Ten thousand connections of one process to itself, or so many, and some to warm up, opened, used
// and closed in batches of a hundred, half of them by a reset. Prints what the process holds, from
// a tenth of them on to the end.

import { connect, listen, Ring, type Socket } from "../../../ts/index.ts";
import { descriptors, residentBytes } from "../descriptors.ts";
import { turns, until } from "../until.ts";

/** Before anything is counted: compilers and allocators have seen it all by then. */
const WARM_UP = 4000;
const TOTAL = Number(process.argv[2] ?? 10_000);
/** Connections between two looks. */
const STRIDE = Math.max(500, TOTAL / 20);
const BATCH = 100;

const listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: { data: (socket: Socket, chunk: Buffer) => void socket.write(chunk) },
});
const ring = Ring.default;
const message = Buffer.alloc(3000, 1);

async function one(polite: boolean): Promise<void> {
  let length = 0;
  const echoed = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const socket = await connect({
    hostname: "127.0.0.1",
    port: listener.port,
    socket: {
      data(_socket: Socket, chunk: Buffer) {
        length += chunk.length;
        if (length === message.length) echoed.resolve();
      },
      close: () => closed.resolve(),
    },
  });
  socket.write(message);
  await echoed.promise;
  if (polite) socket.end();
  else socket.terminate();
  await closed.promise;
}

async function sample() {
  await until(() => ring.pendingCount === 1, "only the listener is open");
  await turns(30);
  // The engine gives memory back when it likes: the least of some looks is what is really held.
  let resident = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    Bun.gc(true);
    Bun.shrink();
    await turns(10);
    resident = Math.min(resident, residentBytes());
  }
  return {
    resident,
    descriptors: descriptors().length,
    connections: listener.connectionCount,
    receivers: ring.connections.filter((receiver) => receiver !== undefined).length,
  };
}

const samples = [];
for (let done = -WARM_UP; done < TOTAL; done += BATCH) {
  if (done >= TOTAL / 10 && done % STRIDE === 0) samples.push(await sample());
  await Promise.all(Array.from({ length: BATCH }, (_, i) => one(i % 2 === 0)));
}
samples.push(await sample());
const stats = ring.stats();
listener.stop();
console.log(JSON.stringify({ opened: 2 * (WARM_UP + TOTAL), samples, stats }));
