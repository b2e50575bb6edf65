// Echo servers and clients, ours and node:net's, for checks by content. The server keeps what the
// kernel did not take and stops reading meanwhile; a client sends its bytes in pieces and collects
// what comes back until the peer's FIN.

import { expect } from "bun:test";
import * as net from "node:net";
import { connect, listen, type BinaryType, type Ring, type Socket } from "../../ts/index.ts";
import { End, writeAll } from "./pair.ts";
import type { Random } from "./random.ts";

/** Where an echo server listens. */
export type Place = { hostname: string; port: number } | { unix: string };
export type Kind = "ours" | "node";

export interface EchoServer extends AsyncDisposable {
  place: Place;
}

/** What one client does: its bytes, cut into pieces, and when it ends its side. */
export interface Plan {
  bytes: Buffer;
  pieces: readonly number[];
  /** FIN right after the last piece instead of after the whole echo. */
  halfClose: boolean;
}

interface EchoOptions {
  binaryType?: BinaryType;
  ring?: Ring;
}

/** Unsent bytes of one connection and whether its peer is done. */
interface Backlog {
  rest: Buffer | null;
  ended: boolean;
}

export function echoServer(
  kind: Kind,
  where: { hostname: string } | { unix: string },
  options: EchoOptions = {},
): Promise<EchoServer> {
  return kind === "ours" ? ourEchoServer(where, options) : nodeEchoServer(where);
}

async function ourEchoServer(
  where: { hostname: string } | { unix: string },
  { binaryType = "buffer", ring }: EchoOptions,
): Promise<EchoServer> {
  const backlogs = new WeakMap<object, Backlog>();
  const backlogOf = (socket: object) => backlogs.get(socket) as Backlog;
  const listener = listen<undefined, BinaryType>({
    ...("unix" in where ? where : { ...where, port: 0 }),
    ...(ring === undefined ? {} : { ring }),
    allowHalfOpen: true,
    socket: {
      binaryType,
      open: (socket) => void backlogs.set(socket, { rest: null, ended: false }),
      data(socket, chunk) {
        const backlog = backlogOf(socket);
        const bytes = chunk instanceof ArrayBuffer ? Buffer.from(chunk) : Buffer.from(chunk);
        if (backlog.rest !== null) {
          backlog.rest = Buffer.concat([backlog.rest, bytes]);
          return;
        }
        const taken = socket.write(chunk);
        if (taken < 0 || taken === bytes.length) return;
        backlog.rest = Buffer.from(bytes.subarray(taken));
        socket.pause();
      },
      drain(socket) {
        const backlog = backlogOf(socket);
        if (backlog.rest === null) return;
        const taken = socket.write(backlog.rest);
        if (taken < 0) return;
        backlog.rest = taken < backlog.rest.length ? backlog.rest.subarray(taken) : null;
        if (backlog.rest !== null) return;
        if (backlog.ended) socket.end();
        else socket.resume();
      },
      end(socket) {
        const backlog = backlogOf(socket);
        backlog.ended = true;
        if (backlog.rest === null) socket.end();
      },
    },
  });
  const place = "unix" in where ? where : { hostname: where.hostname, port: listener.port ?? 0 };
  return {
    place,
    async [Symbol.asyncDispose]() {
      listener.stop(true);
    },
  };
}

async function nodeEchoServer(where: { hostname: string } | { unix: string }): Promise<EchoServer> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if ("unix" in where) server.listen(where.unix, resolve);
    else server.listen(0, where.hostname, resolve);
  });
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  return {
    place: "unix" in where ? where : { hostname: where.hostname, port },
    async [Symbol.asyncDispose]() {
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Runs the plan over one connection; what came back. */
export function echoClient(kind: Kind, place: Place, plan: Plan, ring?: Ring): Promise<Buffer> {
  return kind === "ours" ? ourEchoClient(place, plan, ring) : nodeEchoClient(place, plan);
}

async function ourEchoClient(place: Place, plan: Plan, ring: Ring | undefined): Promise<Buffer> {
  const end = new End();
  const socket = await connect({
    ...place,
    ...(ring === undefined ? {} : { ring }),
    allowHalfOpen: true,
    socket: end.handlers,
  });
  let at = 0;
  for (const size of plan.pieces) {
    await writeAll(socket as Socket, end, plan.bytes.subarray(at, at + size));
    at += size;
  }
  if (!plan.halfClose) await Promise.race([end.received(at), end.closed.promise]);
  socket.end();
  await end.closed.promise;
  if (end.closeError !== undefined) throw end.closeError;
  if (end.order.at(-2) !== "end") throw new Error(`closed without end: ${end.order}`);
  return end.bytes;
}

async function nodeEchoClient(place: Place, plan: Plan): Promise<Buffer> {
  const options = "unix" in place
    ? { path: place.unix }
    : { host: place.hostname, port: place.port };
  const socket = net.connect({ ...options, allowHalfOpen: true });
  const chunks: Buffer[] = [];
  let received = 0;
  const whole = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    received += chunk.length;
    if (received >= plan.bytes.length) whole.resolve();
  });
  socket.on("error", closed.reject);
  socket.on("close", () => closed.resolve());
  let at = 0;
  for (const size of plan.pieces) {
    const drained = Promise.withResolvers<void>();
    if (!socket.write(plan.bytes.subarray(at, at + size))) {
      socket.once("drain", drained.resolve);
      await Promise.race([drained.promise, closed.promise]);
    }
    at += size;
  }
  if (!plan.halfClose) await Promise.race([whole.promise, closed.promise]);
  socket.end();
  await closed.promise;
  return Buffer.concat(chunks);
}

/** Bytes of a random number, cut into random pieces. */
export function planOf(random: Random, most: number): Plan {
  const bytes = random.bytes(random.size(1, most));
  const pieces: number[] = [];
  for (let left = bytes.length; left > 0; left -= pieces.at(-1) ?? 0) {
    pieces.push(random.chance(0.3) ? left : random.size(1, left));
  }
  return { bytes, pieces, halfClose: random.chance(0.5) };
}

/** Every client gets back its own bytes, all of them, in order. */
export async function expectEchoes(
  echoes: Promise<Buffer>[],
  plans: readonly Plan[],
): Promise<void> {
  const received = await Promise.all(echoes);
  received.forEach((bytes, i) => {
    const sent = plans[i]?.bytes as Buffer;
    // Not toEqual: a difference would print a quarter of a megabyte.
    expect([i, bytes.length]).toEqual([i, sent.length]);
    expect([i, Buffer.compare(bytes, sent)]).toEqual([i, 0]);
  });
}
