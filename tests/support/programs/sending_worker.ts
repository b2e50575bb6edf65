// A Worker whose sends cannot end, because nobody reads: pooled and moved-in memory, a chain, with
// and without copies. Posts its port, and for each connection how many sends it has started.

import { BufferPool, listen, Ring, type Socket } from "../../../ts/index.ts";

declare const self: Worker;

const ring = new Ring({ zeroCopyThreshold: 64 * 1024 });
const pool = new BufferPool({ ring, size: 4 * 1024 * 1024, count: 16 });

const listener = listen({
  ring,
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    data(socket: Socket) {
      const pooled = pool.acquire();
      if (pooled === null) throw new Error("the pool is empty");
      const sends = [
        socket.send(pooled),
        socket.send(new ArrayBuffer(16 * 1024 * 1024)),
        socket.chain([pooled, "tail", new ArrayBuffer(1024 * 1024)]),
      ];
      for (const send of sends) send.then(() => self.postMessage(-1), () => self.postMessage(-2));
      self.postMessage(sends.length);
    },
  },
});

self.postMessage(listener.port);
