// A socket of the library and its foreign peer, for tests of piping.
//
// The peers are Node's sockets, which know nothing of this library; what they receive is kept.

import net from "node:net";
import { listen, type Ring, type Socket } from "../../ts/index.ts";

export interface Line extends Disposable {
  socket: Socket;
  peer: net.Socket;
  /** What the peer has received, until its end. */
  received: Promise<Buffer>;
  bytes(): number;
}

/** `unix` instead of TCP on loopback. */
export async function line(
  ring: Ring,
  socket: Record<string, unknown> = {},
  unix = false,
): Promise<Line> {
  const opened = Promise.withResolvers<Socket>();
  const path = `\0bun-uring-${crypto.randomUUID()}`;
  const listener = listen({
    ...(unix ? { unix: path } : { hostname: "127.0.0.1", port: 0 }),
    ring,
    socket: { open: (accepted: Socket) => opened.resolve(accepted), ...socket },
  } as Parameters<typeof listen>[0]);
  const place = unix ? { path } : { host: "127.0.0.1", port: listener.port as number };
  const peer = net.connect({ ...place, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  const ended = Promise.withResolvers<Buffer>();
  peer.on("data", (chunk: Buffer) => chunks.push(chunk));
  peer.on("end", () => ended.resolve(Buffer.concat(chunks)));
  peer.on("error", (error) => ended.reject(error));
  // Not every test looks at it.
  ended.promise.catch(() => {});
  const accepted = await opened.promise;
  listener.stop();
  return {
    socket: accepted,
    peer,
    received: ended.promise,
    bytes: () => chunks.reduce((sum, { length }) => sum + length, 0),
    [Symbol.dispose]: () => {
      peer.destroy();
      accepted.terminate();
    },
  };
}
