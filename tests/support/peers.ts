// Peers of an echo, from the well-behaved to those that no protocol allows for. Made of node:net:
// none of it is ours. Each says what came back, and how much of it has to.

import * as net from "node:net";
import type { Ring } from "../../ts/index.ts";
import type { Place } from "./echo.ts";
import type { Random } from "./random.ts";
import { turns } from "./until.ts";

export interface Outcome {
  sent: Buffer;
  back: Buffer;
  /** All of it must have come back; else what came is the beginning. */
  whole: boolean;
}

type Peer = (place: Place, random: Random) => Promise<Outcome>;

const KIB = 1024;

/** A connected socket that collects what comes. */
class Client {
  readonly socket: net.Socket;
  readonly #chunks: Buffer[] = [];
  #length = 0;
  readonly #progress = new Set<() => void>();
  readonly closed = Promise.withResolvers<void>();

  private constructor(place: Place) {
    const to = "unix" in place ? { path: place.unix } : { host: place.hostname, port: place.port };
    this.socket = net.connect({ ...to, allowHalfOpen: true });
    this.socket.setNoDelay();
    this.socket.on("data", (chunk) => {
      this.#chunks.push(chunk as Buffer);
      this.#length += chunk.length;
      for (const look of this.#progress) look();
    });
    this.socket.on("error", this.closed.reject);
    this.socket.on("close", () => this.closed.resolve());
  }

  static async to(place: Place): Promise<Client> {
    const client = new Client(place);
    await new Promise<void>((resolve) => client.socket.once("connect", resolve));
    return client;
  }

  get back(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** So many bytes have come back, or the connection is over. */
  async came(length: number): Promise<void> {
    const enough = Promise.withResolvers<void>();
    const look = () => {
      if (this.#length >= length) enough.resolve();
    };
    this.#progress.add(look);
    look();
    await Promise.race([enough.promise, this.closed.promise]);
    this.#progress.delete(look);
  }

  async over(sent: Buffer): Promise<Outcome> {
    this.socket.end();
    await this.closed.promise;
    return { sent, back: this.back, whole: true };
  }
}

export const PEERS: Readonly<Record<string, Peer>> = {
  async dribbles(place, random) {
    const client = await Client.to(place);
    const sent = random.bytes(random.between(50, 150));
    for (let at = 0; at < sent.length; ) {
      const size = random.between(1, 4);
      client.socket.write(sent.subarray(at, at + size));
      at += size;
      if (random.chance(0.5)) await turns(random.between(1, 5));
    }
    await client.came(sent.length);
    return client.over(sent);
  },

  async floods(place, random) {
    const client = await Client.to(place);
    client.socket.pause();
    const sent = random.bytes(random.between(256, 768) * KIB);
    client.socket.write(sent);
    await turns(30); // the echo finds no room meanwhile
    client.socket.resume();
    await client.came(sent.length);
    return client.over(sent);
  },

  async "half-closes"(place, random) {
    const client = await Client.to(place);
    const sent = random.bytes(random.size(1, 256 * KIB));
    client.socket.write(sent);
    return client.over(sent);
  },

  async resets(place, random) {
    const client = await Client.to(place);
    const sent = random.bytes(random.size(1, 256 * KIB));
    client.socket.write(sent);
    await client.came(random.between(0, sent.length));
    client.socket.resetAndDestroy();
    await client.closed.promise;
    return { sent, back: client.back, whole: false };
  },
};

// Peers that hardly read. They are bare descriptors, since a stream reads ahead, and belong to a
// ring of their own, which the echo's figures know nothing of.

async function bareClient(ring: Ring, place: Place): Promise<number> {
  const fd = await ring.socket("unix" in place ? "unix" : "ipv4");
  await ring.connect(fd, place);
  return fd;
}

/** Sends a lot, reads a byte a second, so many times, and then all that there is. */
export async function readSlowly(
  ring: Ring,
  place: Place,
  random: Random,
  seconds: number,
): Promise<Outcome> {
  const fd = await bareClient(ring, place);
  const sent = random.bytes(random.between(256, 512) * KIB);
  const sending = (async () => {
    for (let at = 0; at < sent.length; ) at += (await ring.send(fd, sent.subarray(at))).bytes;
    await ring.shutdown(fd, "write");
  })();
  const chunks: Buffer[] = [];
  const read = async (most: number) => {
    const chunk = Buffer.alloc(most);
    const { bytes } = await ring.recv(fd, chunk);
    if (bytes > 0) chunks.push(chunk.subarray(0, bytes));
    return bytes > 0;
  };
  for (let second = 0; second < seconds; second++) {
    await ring.timeout(1000);
    await read(1);
  }
  while (await read(64 * KIB));
  await sending;
  await ring.close(fd);
  return { sent, back: Buffer.concat(chunks), whole: true };
}

/** Sends without an end and reads nothing; goes when it is disposed. */
export async function neverRead(ring: Ring, place: Place): Promise<AsyncDisposable> {
  const fd = await bareClient(ring, place);
  const bytes = Buffer.alloc(256 * KIB);
  const quit = new AbortController();
  const sending = (async () => {
    for (;;) await ring.send(fd, bytes, { signal: quit.signal });
  })();
  const over = sending.catch(() => ring.close(fd)); // the signal's, or the reset's
  return {
    async [Symbol.asyncDispose]() {
      quit.abort();
      await over;
    },
  };
}
