// Datagrams in numbers: boundaries, senders and order are exact, for every size, with and without
// multishot receives, with and without the kernel's help for many of one size (GSO, GRO), when
// buffers run out, and when the sender is faster than the socket.

import { expect, test } from "bun:test";
import { Ring, udpSocket, type RingOptions } from "../ts/index.ts";
import { Inbox, numbered } from "./support/datagrams.ts";
import { Random } from "./support/random.ts";

const LOOPBACK = "127.0.0.1";
/** More than the kernel's default keeps, so that nothing is lost while nobody reads. */
const ROOM = 2 << 20;

type Mask = NonNullable<RingOptions["disable"]>;
const MASKS: Record<string, Mask> = {
  "everything the kernel has": [],
  "one receive at a time": ["multishot_recvmsg"],
  "no multishot at all": ["multishot_receive", "multishot_accept"],
  "nothing put together for sending": ["udp_gso"],
  "nothing put together for receiving": ["udp_gro"],
  "none of it": ["multishot_recvmsg", "udp_gro", "udp_gso"],
};

const NAMES = Object.keys(MASKS);

const FAMILIES = ["IPv4", "IPv6"].flatMap((family) => {
  return NAMES.map((name) => [family, name] as const);
});

test.each(FAMILIES)("every size arrives whole over %s with %s", async (family, name) => {
  const disable = MASKS[name] as Mask;
  const hostname = family === "IPv4" ? LOOPBACK : "::1";
  const sizes = family === "IPv4"
    ? [0, 1, 2, 511, 1472, 1473, 16384, 65506, 65507]
    : [0, 1, 1452, 1453, 65526, 65527];
  await using ring = new Ring({ disable });
  const inbox = new Inbox();
  const options = { hostname, ring, receiveBufferSize: ROOM };
  using receiver = await udpSocket({ ...options, socket: inbox.handlers });
  using sender = await udpSocket(options);
  for (const size of sizes) {
    expect(sender.send(numbered(size, size), receiver.port, hostname)).toBe(true);
  }
  await inbox.received(sizes.length);
  expect(inbox.mail.map(({ data }) => data.length)).toEqual(sizes);
  for (const { data, port, address, truncated } of inbox.mail) {
    expect([data.equals(numbered(data.length, data.length)), truncated]).toEqual([true, false]);
    expect([port, address]).toEqual([sender.port, hostname]);
  }
});

test.each(NAMES)("many of one and of mixed sizes arrive in order, singly: %s", async (name) => {
  const disable = MASKS[name] as Mask;
  await using ring = new Ring({ disable });
  const random = new Random(7);
  const inbox = new Inbox();
  const options = { hostname: LOOPBACK, ring, receiveBufferSize: ROOM };
  using receiver = await udpSocket({ ...options, socket: inbox.handlers });
  using sender = await udpSocket({
    ...options,
    connect: { hostname: LOOPBACK, port: receiver.port },
  });
  const sizes: number[] = [];
  while (sizes.length < 600) {
    // Runs of one size, a shorter one behind some of them, an empty one now and then.
    const size = random.chance(0.25) ? random.between(0, 3000) : 64;
    for (let i = random.between(0, 99); i >= 0; i--) sizes.push(size);
    sizes.push(random.between(0, size));
  }
  const packets = sizes.map((size, number) => numbered(number, size));
  for (let at = 0; at < packets.length; at += 100) {
    const part = packets.slice(at, at + 100);
    expect(sender.sendMany(part)).toBe(part.length);
    await inbox.received(at + part.length);
  }
  expect(inbox.mail.map(({ data }) => data.length)).toEqual(sizes);
  expect(inbox.mail.every(({ data }, number) => data.equals(packets[number] as Buffer)))
    .toBe(true);
  const { datagrams_sent, datagrams_received, datagrams_truncated, sqes } = ring.stats();
  expect([datagrams_sent, datagrams_received, datagrams_truncated]).toEqual([
    sizes.length, sizes.length, 0,
  ]);
  if (disable.includes("udp_gso")) expect(sqes).toBeGreaterThan(sizes.length);
  // Single receives take an SQE each, also of what came together.
  else if (ring.features.has("multishot_recvmsg")) expect(sqes).toBeLessThan(sizes.length);
});

test.each(NAMES)("each datagram has its own sender, however they mix: %s", async (name) => {
  const disable = MASKS[name] as Mask;
  await using ring = new Ring({ disable });
  const inbox = new Inbox();
  using receiver = await udpSocket({
    hostname: "::",
    ring,
    socket: inbox.handlers,
    receiveBufferSize: ROOM,
  });
  const hosts = [LOOPBACK, "127.0.0.2", "::1"];
  const senders = await Promise.all(Array.from({ length: 30 }, (_, i) => {
    return udpSocket({ hostname: hosts[i % 3] as string, ring });
  }));
  for (let round = 0; round < 5; round++) {
    for (const sender of senders) {
      const host = sender.hostname === "::1" ? "::1" : LOOPBACK;
      sender.send(`${sender.hostname} ${sender.port}`, receiver.port, host);
    }
    await inbox.received((round + 1) * senders.length);
  }
  for (const { data, port, address } of inbox.mail) {
    expect(`${address.replace("::ffff:", "")} ${port}`).toBe(data.toString());
  }
  for (const sender of senders) sender.close();
});

test.each(NAMES)("a burst larger than the pool of buffers arrives whole: %s", async (name) => {
  const disable = MASKS[name] as Mask;
  await using ring = new Ring({ disable, highWaterMark: 1 << 20 });
  const inbox = new Inbox();
  const options = { hostname: LOOPBACK, ring, receiveBufferSize: ROOM, sendBufferSize: ROOM };
  const receivers = await Promise.all([0, 1, 2].map(() => {
    return udpSocket({ ...options, socket: inbox.handlers });
  }));
  using sender = await udpSocket(options);
  const count = 700;
  for (let number = 0; number < count; number++) {
    // Sizes differ, so that each is a message of its own.
    const { port } = receivers[number % 3] as { port: number };
    expect(sender.send(numbered(number, 10 + number), port, LOOPBACK)).toBe(true);
  }
  await inbox.received(count);
  const numbers = inbox.mail.map(({ data }) => data.readUInt32BE(0)).sort((a, b) => a - b);
  expect(numbers).toEqual(Array.from({ length: count }, (_, number) => number));
  for (const receiver of receivers) receiver.close();
});

test.each(NAMES)("a sender that is refused is told when there is room: %s", async (name) => {
  const disable = MASKS[name] as Mask;
  await using ring = new Ring({ disable, highWaterMark: 8192 });
  const inbox = new Inbox();
  const outbox = new Inbox();
  const options = { hostname: LOOPBACK, ring, receiveBufferSize: ROOM };
  using receiver = await udpSocket({ ...options, socket: inbox.handlers });
  using sender = await udpSocket({
    ...options,
    connect: { hostname: LOOPBACK, port: receiver.port },
    socket: outbox.handlers,
  });
  let refusals = 0;
  for (let number = 0; number < 300; number++) {
    for (;;) {
      const { drained } = outbox;
      if (sender.send(numbered(number, 500 + (number % 2)))) break;
      refusals++;
      await drained;
    }
  }
  await inbox.received(300);
  expect(inbox.mail.map(({ data }) => data.readUInt32BE(0))).toEqual(
    Array.from({ length: 300 }, (_, number) => number),
  );
  expect(refusals).toBeGreaterThan(3);
  expect(outbox.drains).toBe(refusals);
});

test("many of one size to one place cost few submissions and completions", async () => {
  await using ring = new Ring();
  const inbox = new Inbox();
  const options = { hostname: LOOPBACK, ring, receiveBufferSize: ROOM };
  using receiver = await udpSocket({ ...options, socket: inbox.handlers });
  using sender = await udpSocket({
    ...options,
    connect: { hostname: LOOPBACK, port: receiver.port },
  });
  expect(sender.sendMany(Array.from({ length: 640 }, (_, i) => numbered(i, 64)))).toBe(640);
  await inbox.received(640);
  const { sqes, cqes } = ring.stats();
  // Ten messages of 64, and a receive for each, single ones one more.
  expect(sqes).toBeLessThan(ring.features.has("multishot_recvmsg") ? 20 : 30);
  expect(cqes).toBeLessThan(30);
});

test("a socket that is full is waited for, in order", async () => {
  await using ring = new Ring({ highWaterMark: 4 << 20 });
  const inbox = new Inbox();
  const options = { hostname: LOOPBACK, ring, receiveBufferSize: 4 << 20 };
  using receiver = await udpSocket({ ...options, socket: inbox.handlers });
  // About four of these fit into the smallest send buffer that the kernel gives.
  using sender = await udpSocket({
    ...options,
    sendBufferSize: 1,
    connect: { hostname: LOOPBACK, port: receiver.port },
  });
  const sizes = Array.from({ length: 60 }, (_, number) => 1000 + number);
  expect(sender.sendMany(sizes.map((size, number) => numbered(number, size)))).toBe(60);
  await inbox.received(60);
  expect(inbox.mail.map(({ data }) => data.length)).toEqual(sizes);
});

test("a handler that answers serves many clients at once", async () => {
  await using ring = new Ring();
  using server = await udpSocket({
    hostname: LOOPBACK,
    ring,
    receiveBufferSize: ROOM,
    socket: {
      data: (socket, data, port, address) => void socket.send(data, port, address),
    },
  });
  const inboxes = Array.from({ length: 20 }, () => new Inbox());
  const clients = await Promise.all(inboxes.map((inbox) => udpSocket({
    connect: { hostname: LOOPBACK, port: server.port },
    socket: inbox.handlers,
    receiveBufferSize: ROOM,
  })));
  for (let round = 1; round <= 20; round++) {
    clients.forEach((client, i) => client.send(numbered(i * 1000 + round, 100)));
    await Promise.all(inboxes.map((inbox) => inbox.received(round)));
  }
  inboxes.forEach((inbox, i) => {
    expect(inbox.mail.map(({ data }) => data.readUInt32BE(0))).toEqual(
      Array.from({ length: 20 }, (_, round) => i * 1000 + round + 1),
    );
  });
  for (const client of clients) client.close();
});
