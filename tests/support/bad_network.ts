// A network as bad as it gets: a proxy on loopback between a client and a server, which delays,
// cuts into pieces, ends and resets what goes through it. Made of node:net: none of it is ours.

import * as net from "node:net";
import type { Random } from "./random.ts";
import { turns } from "./until.ts";

export interface Badness {
  /** Every piece is held for up to so many turns of the loop. */
  delayTurns?: number;
  /** Pieces have up to so many bytes, each in a packet of its own. */
  pieceBytes?: number;
  /** After so many bytes, both ways together, both ends hear the end of the stream. */
  endAfter?: number;
  /** After so many bytes both ends are reset. */
  resetAfter?: number;
}

export interface BadNetwork extends AsyncDisposable {
  readonly port: number;
  /** Bytes that went through so far. */
  readonly carried: number;
}

/** Listens on a free port, and connects each client to the server. */
export async function badNetwork(
  serverPort: number,
  random: Random,
  badness: Badness,
): Promise<BadNetwork> {
  let carried = 0;
  const open = new Set<net.Socket>();
  const proxy = net.createServer({ allowHalfOpen: true }, (near) => {
    const far = net.connect({ port: serverPort, host: "127.0.0.1", allowHalfOpen: true });
    for (const socket of [near, far]) {
      open.add(socket.setNoDelay());
      // What breaks on one side is the other side's news, and the tests look there.
      socket.on("error", () => socket.destroy());
      socket.on("close", () => open.delete(socket));
    }
    void carry(near, far);
    void carry(far, near);
  });

  async function carry(from: net.Socket, to: net.Socket): Promise<void> {
    try {
      // The other direction goes on behind the end of this one.
      const chunks = from.iterator({ destroyOnReturn: false });
      for await (const chunk of chunks) await pass(chunk as Buffer, from, to);
      to.end();
    } catch {
      // The side that it came from is broken, so the other one is broken as well.
      if (!to.connecting) to.resetAndDestroy();
    }
  }

  async function pass(chunk: Buffer, from: net.Socket, to: net.Socket): Promise<void> {
    const { delayTurns = 0, pieceBytes = chunk.length } = badness;
    for (let at = 0; at < chunk.length; ) {
      const piece = chunk.subarray(at, at + random.between(1, pieceBytes));
      at += piece.length;
      if (delayTurns > 0) await turns(random.between(0, delayTurns));
      if (to.destroyed) return;
      await new Promise((resolve) => to.write(piece, resolve));
      carried += piece.length;
      if (carried >= (badness.resetAfter ?? Number.POSITIVE_INFINITY)) {
        from.resetAndDestroy();
        to.resetAndDestroy();
      } else if (carried >= (badness.endAfter ?? Number.POSITIVE_INFINITY)) {
        from.end();
        to.end();
        return;
      }
    }
  }

  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    port: (proxy.address() as net.AddressInfo).port,
    get carried() {
      return carried;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
    },
  };
}
