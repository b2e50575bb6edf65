// A Worker that is going to be terminated: in a turn, in a wait, with a thousand operations
// pending, in mid-traffic, or with pipes that are full. Tells when it is there.
//
// The traffic: it echoes on a port which it tells, keeps borrowed chunks, posts blocks, and has
// reads, polls and timers pending in every kind of memory.

import {
  BufferPool,
  listen,
  NativeBlock,
  Ring,
  type BorrowedChunk,
  type Socket,
} from "../../../ts/index.ts";

declare const self: Worker;

export interface Doom {
  how: "turn" | "wait" | "pending" | "traffic" | "pipes";
  /** To post blocks to. */
  token: number;
  /** To read from: nothing ever comes. */
  fd: number;
}

/** Held here, so that nothing is collected. */
const held: unknown[] = [];

self.onmessage = ({ data }: MessageEvent<Doom>) => {
  const { how, token, fd } = data;
  if (how === "traffic") return traffic(token, fd);
  if (how === "pipes") return forward();
  const ring = new Ring({ entries: 64 });
  held.push(ring);
  if (how === "pending") pend(ring, fd, 1000);
  if (how === "wait") pend(ring, fd, 1);
  self.postMessage(0);
  if (how === "wait") for (;;) ring.waitSync();
  if (how === "turn") spin(ring);
};

/** Turns without end, with something in each of them. */
function spin(ring: Ring): never {
  for (;;) {
    for (let i = 0; i < 32; i++) ring.nop(() => {});
    ring.poll();
  }
}

/** So many operations that never complete. */
function pend(ring: Ring, fd: number, count: number): void {
  const pool = new BufferPool({ ring, size: 4096, count: 8 });
  held.push(pool);
  for (let i = 0; i < count; i++) {
    if (i % 5 === 0) held.push(ring.timeout(3_600_000 + i));
    else if (i % 5 === 1) held.push(ring.poll(fd, "read"));
    else if (i % 5 === 2) held.push(ring.read(fd, new Uint8Array(64)));
    else if (i % 5 === 3) held.push(ring.read(fd, new SharedArrayBuffer(4096)));
    else held.push(ring.read(fd, pool.acquire() ?? new Uint8Array(8)));
    if (i % 50 === 49) ring.submit();
  }
  ring.submit();
}

/** Pipes whatever comes over each connection back to where it came from. */
function forward(): void {
  const ring = new Ring({ spliceThreshold: 1 });
  const open = (socket: Socket) => void socket.pipeTo(socket).catch(String);
  const listener = listen({ hostname: "127.0.0.1", port: 0, ring, socket: { open } });
  held.push(listener);
  self.postMessage(listener.port);
}

function traffic(token: number, fd: number): void {
  const ring = Ring.default;
  const poster = Ring.open(token);
  let echoes = 0;
  const listener = listen<undefined, "borrowed">({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      binaryType: "borrowed",
      data(socket: Socket, chunk: BorrowedChunk) {
        socket.write(chunk);
        if (++echoes % 7 === 0) held[echoes % 16] = chunk.keep();
        if (echoes % 5 === 0) held[echoes % 16] = socket.send(new Uint8Array(20_000)).catch(String);
        if (echoes % 9 === 0) post(poster, echoes);
      },
    },
  });
  pend(ring, fd, 50);
  self.postMessage(listener.port);
}

function post(poster: ReturnType<typeof Ring.open>, number: number): void {
  try {
    poster.post(1, new NativeBlock(Buffer.from(`${number}`)));
  } catch (error) {
    if ((error as { code?: string }).code !== "EAGAIN") throw error; // the mailbox is full
  }
}
