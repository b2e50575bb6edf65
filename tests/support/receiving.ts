// Peers that send in every way that there is, and servers that receive in every way: what arrived
// is compared with what was sent, connection by connection.
//
// The first byte names the peer. Peers are node:net's, so that only one end is under test.

import * as net from "node:net";
import {
  listen,
  Ring,
  type BinaryType,
  type BorrowedChunk,
  type RingOptions,
  type Socket,
} from "../../ts/index.ts";
import type { Random } from "./random.ts";
import { turn, until } from "./until.ts";

export type Place = { hostname: string } | { unix: string };

/** What one connection brought. */
export interface Arrival {
  bytes: Buffer;
  order: string[];
}

/** One way to receive: a ring, and what the handler does with each chunk. */
export interface Mode {
  options?: RingOptions;
  binaryType?: BinaryType;
  /** Called with each chunk after it was written down. */
  onChunk?(socket: Socket<Arrival>, chunk: unknown, random: Random): void;
  /** What must have happened, by the ring's counters. */
  proof?(ring: Ring): boolean;
}

const bytesOf = (chunk: unknown) =>
  chunk instanceof ArrayBuffer ? Buffer.from(chunk) : Buffer.from(chunk as Uint8Array);

/** A few turns later. */
async function later(random: Random, call: () => void): Promise<void> {
  for (let i = random.between(1, 20); i > 0; i--) await turn();
  call();
}

/** Pauses now and then; what comes all the same is an error. */
function pauseAtTimes(socket: Socket<Arrival>, _chunk: unknown, random: Random): void {
  if (socket.data.order.at(-1) === "paused") throw new Error("data while paused");
  if (!random.chance(0.3)) return;
  socket.data.order.push("paused");
  socket.pause();
  void later(random, () => {
    socket.data.order.push("resumed");
    socket.resume();
  });
}

/** Keeps chunks for a while, and sees that they stay what they were. */
function keepAtTimes(_socket: Socket<Arrival>, chunk: unknown, random: Random): void {
  if (!random.chance(0.5)) return;
  const kept = (chunk as BorrowedChunk).keep();
  const copy = Buffer.from(kept);
  void later(random, () => {
    if (!kept.equals(copy)) throw new Error("a kept chunk changed");
    kept.release();
  });
}

const counter = (ring: Ring, name: keyof ReturnType<Ring["stats"]>) => ring.stats()[name] > 0;

export const MODES: Record<string, Mode> = {
  "a multishot receive": {},
  "a multishot receive without a limit": { options: { disable: ["receive_limit"] } },
  "one receive after the other": { options: { disable: ["multishot_receive"] } },
  "one receive after the other into blocks": {
    options: { holdBytes: 16384 },
    proof: (ring) => counter(ring, "receive_large") && counter(ring, "receive_switches"),
  },
  "blocks that many want": {
    options: { holdBytes: 4096, receiveBlocks: 1, receiveBlockSize: 65536 },
    proof: (ring) => counter(ring, "receive_large"),
  },
  "shared buffers alone": { options: { receiveBlocks: 0 } },
  "hardly any buffers": {
    options: { receiveBuffers: 1, receiveBufferSize: 1024, receiveBlocks: 0 },
    proof: (ring) => counter(ring, "parks") && counter(ring, "receive_starved"),
  },
  "a small share": {
    options: { holdBuffers: 1, receiveBlocks: 0 },
    proof: (ring) => counter(ring, "receive_held"),
  },
  "a small share without a limit": {
    options: { holdBuffers: 2, holdBytes: 5000, disable: ["receive_limit"], receiveBlocks: 0 },
    proof: (ring) => counter(ring, "receive_held"),
  },
  "pauses": { onChunk: pauseAtTimes },
  "pauses, borrowing": { binaryType: "borrowed", onChunk: pauseAtTimes },
  "borrowed chunks": { binaryType: "borrowed" },
  "borrowed chunks that are kept": { binaryType: "borrowed", onChunk: keepAtTimes },
  "kept chunks of few buffers": {
    options: { receiveBuffers: 4, receiveBufferSize: 4096, receiveBlocks: 2, holdBuffers: 2 },
    binaryType: "borrowed",
    onChunk: keepAtTimes,
  },
};

export interface Receiver extends AsyncDisposable {
  ring: Ring;
  place: net.NetConnectOpts;
  /** By the first byte, complete once the connection is over. */
  arrivals: Map<number, Arrival>;
  errors: Error[];
}

export function receiver(mode: Mode, where: Place, random: Random): Receiver {
  const ring = new Ring(mode.options ?? {});
  const arrivals = new Map<number, Arrival>();
  const errors: Error[] = [];
  const listener = listen<Arrival, BinaryType>({
    ...("unix" in where ? where : { ...where, port: 0 }),
    ring,
    data: undefined as unknown as Arrival,
    socket: {
      binaryType: mode.binaryType ?? "buffer",
      open(socket) {
        socket.data = { bytes: Buffer.alloc(0), order: [] };
      },
      data(socket, chunk) {
        mode.onChunk?.(socket, chunk, random);
        socket.data.bytes = Buffer.concat([socket.data.bytes, bytesOf(chunk)]);
      },
      end(socket) {
        socket.data.order.push("end");
      },
      close(socket, error) {
        socket.data.order.push(error === undefined ? "close" : "close with an error");
        const [first] = socket.data.bytes;
        if (first !== undefined) arrivals.set(first, socket.data);
      },
      error: (_socket, error) => void errors.push(error),
    },
  });
  const place = "unix" in where
    ? { path: where.unix }
    : { host: where.hostname, port: listener.port as number };
  return {
    ring,
    place,
    arrivals,
    errors,
    async [Symbol.asyncDispose]() {
      listener.stop(true);
      await ring.close();
    },
  };
}

/** One way to send: the bytes, and how. Resolves when the peer is done with the connection. */
export interface Peer {
  bytes: Buffer;
  /** Less than all of it may arrive. */
  breaks?: boolean;
  send(socket: net.Socket): Promise<void> | void;
}

/** Peers of all kinds, numbered by their first byte. */
export function peers(random: Random): Peer[] {
  const made: Peer[] = [];
  const add = (size: number, peer: Omit<Peer, "bytes"> & { bytes?: never }) => {
    const bytes = random.bytes(size);
    bytes[0] = made.length;
    made.push({ ...peer, bytes });
    return bytes;
  };
  const dribbled = add(1000, {
    async send(socket) {
      for (let at = 0; at < dribbled.length; ) {
        const size = random.between(1, 9);
        socket.write(dribbled.subarray(at, (at += size)));
        await turn();
      }
      socket.end();
    },
  });
  for (const size of [16_384, 65_536, 300_000, 3_000_000]) {
    const flood = add(size, { send: (socket) => void socket.end(flood) });
  }
  const uneven = add(800_000, {
    async send(socket) {
      for (let at = 0; at < uneven.length; ) {
        const size = random.size(1, 200_000);
        const goes = socket.write(uneven.subarray(at, (at += size)));
        if (!goes) await new Promise((resolve) => socket.once("drain", resolve));
      }
      socket.end();
    },
  });
  const reset = add(500_000, {
    breaks: true,
    async send(socket) {
      socket.write(reset);
      await until(() => socket.bytesWritten > 0);
      for (let i = random.between(0, 30); i > 0; i--) await turn();
      socket.resetAndDestroy();
    },
  });
  return made;
}

/** One byte a second. */
export function slowPeer(id: number): Peer {
  const bytes = Buffer.of(id, 1, 2);
  return {
    bytes,
    async send(socket) {
      for (const byte of bytes) {
        socket.write(Buffer.of(byte));
        await Ring.default.timeout(1000);
      }
      socket.end();
    },
  };
}

/** Sends all of it; resolves when the connection is over at this end. */
export async function play(peer: Peer, place: net.NetConnectOpts): Promise<void> {
  const socket = net.connect({ ...place, allowHalfOpen: true });
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("error", () => undefined); // told by what has arrived
  socket.resume();
  socket.once("end", () => socket.end());
  await new Promise((resolve) => socket.once("connect", resolve));
  await peer.send(socket);
  await closed;
}
