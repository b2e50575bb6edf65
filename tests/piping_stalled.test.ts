// Pipes whose targets' peers read nothing: however many there are, everybody else goes on, and
// they do too as soon as they can. Nothing is lost meanwhile, and memory has its bound.

import { expect, test } from "bun:test";
import { connect, listen, Ring, type Socket } from "../ts/index.ts";
import { Random } from "./support/random.ts";
import { until } from "./support/until.ts";

const BUFFERS = 16;
const BUFFER_SIZE = 4096;
/** More than the shares that the ring has buffers for. */
const PIPES = 12;

/** A pipe: what is sent to `from` arrives at `to`. */
interface Line {
  from: Socket;
  to: Socket;
  piped: Promise<number>;
  received: Buffer[];
}

/** Pipes between sockets of `ring`; their outer ends are sockets of `outside`. */
async function lines(ring: Ring, outside: Ring, count: number): Promise<Line[]> {
  const accepted: Socket[] = [];
  const open = (socket: Socket) => void accepted.push(socket);
  const unix = `\0bun-uring-${crypto.randomUUID()}`;
  using _listener = listen({ unix, ring, allowHalfOpen: true, socket: { open } });
  const made: Line[] = [];
  for (let i = 0; i < count; i++) {
    const received: Buffer[] = [];
    const data = (_: Socket, chunk: Buffer) => void received.push(chunk);
    const place = { unix, ring: outside, allowHalfOpen: true };
    const from = await connect({ ...place, socket: {} });
    await until(() => accepted.length === 1);
    const source = accepted.pop() as Socket;
    const to = await connect({ ...place, socket: { data } });
    await until(() => accepted.length === 1);
    const piped = source.pipeTo(accepted.pop() as Socket);
    made.push({ from, to, piped, received });
  }
  return made;
}

/** An echo over `ring` answers. */
async function echoes(ring: Ring, outside: Ring, size: number): Promise<void> {
  const unix = `\0bun-uring-${crypto.randomUUID()}`;
  const data = (socket: Socket, chunk: Buffer) => void socket.write(chunk);
  using _listener = listen({ unix, ring, socket: { data } });
  let came = 0;
  const count = (_: Socket, chunk: Buffer) => void (came += chunk.length);
  const client = await connect({ unix, ring: outside, socket: { data: count } });
  for (let sent = 0; sent < size; sent += 1000) {
    client.write(Buffer.alloc(1000));
    await until(() => came >= sent + 1000, "an echo");
  }
  client.terminate();
}

test.each([
  ["buffers", {}],
  ["buffers alone", { receiveBlocks: 0 }],
  ["one receive at a time", { disable: ["multishot_receive"] }],
] as const)("stalled pipes leave others their %s", async (_name, options) => {
  const small = { receiveBuffers: BUFFERS, receiveBufferSize: BUFFER_SIZE };
  await using ring = new Ring({ ...small, ...options } as never);
  await using outside = new Ring();
  const all = await lines(ring, outside, PIPES);
  const active = all.pop() as Line;
  for (const { to } of all) to.pause();
  const random = new Random(7);
  const contents = all.map(() => random.bytes(1 << 20));
  const sends = all.map(({ from }, i) => from.send(contents[i] as Buffer));
  // Each takes what it can get.
  let before = -1;
  await until(() => {
    const now = ring.stats().bytes_received;
    const still = now === before;
    before = now;
    return still && now > 0;
  });
  const { receive_buffers_lent, receive_blocks_free, receive_buffers_free } = ring.stats();
  expect(receive_buffers_lent).toBeGreaterThan(0);
  expect([receive_buffers_free, receive_blocks_free].some((free) => free > 0)).toBe(true);
  await echoes(ring, outside, 20_000);
  const bytes = random.bytes(3 << 20);
  await active.from.send(bytes);
  active.from.end();
  expect(await active.piped).toBe(bytes.length);
  await until(() => Buffer.concat(active.received).length === bytes.length);
  expect(Buffer.concat(active.received).equals(bytes)).toBe(true);
  // Those that stood go on, and have lost nothing.
  for (const { to } of all) to.resume();
  await Promise.all(sends);
  for (const { from } of all) from.end();
  expect(await Promise.all(all.map(({ piped }) => piped))).toEqual(all.map(() => 1 << 20));
  await until(() => all.every(({ received }) => Buffer.concat(received).length === 1 << 20));
  all.forEach(({ received }, i) => {
    expect(Buffer.concat(received).equals(contents[i] as Buffer)).toBe(true);
  });
  expect(ring.stats().receive_buffers_lent).toBe(0);
  for (const { from, to } of [...all, active]) [from, to].forEach((end) => end.terminate());
});
