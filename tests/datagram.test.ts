// udpSocket(): the shape of Bun.udpSocket, with Bun's own socket at the other end.
//
// What a socket says of itself, what its handlers are told, errors that come from the network, its
// options and its end. How datagrams travel in numbers is in datagram_traffic.test.ts.

import { describe, expect, test } from "bun:test";
import { Ring, udpSocket, UringError } from "../ts/index.ts";
import { program, run } from "./support/child.ts";
import { Inbox, udpDescriptor } from "./support/datagrams.ts";
import { socketOption } from "./support/descriptors.ts";
import { turns, until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";

/** One of ours with its inbox, on this machine. */
async function socketWith(inbox = new Inbox(), options: object = {}) {
  return udpSocket({ hostname: LOOPBACK, socket: inbox.handlers, ...options });
}

describe("what a socket says of itself", () => {
  test("it is bound to every address and a free port unless told otherwise", async () => {
    using socket = await udpSocket();
    using bun = closing(await Bun.udpSocket({}));
    expect(socket.port).toBeGreaterThan(0);
    expect(socket.address).toEqual({ ...bun.address, port: socket.port } as never);
    expect([socket.hostname, socket.binaryType, socket.closed, socket.remoteAddress]).toEqual([
      bun.hostname, bun.binaryType, bun.closed, undefined,
    ]);
  });

  test.each([LOOPBACK, "::1", "[::1]", "localhost", "::"])("hostname %s is bound", async (name) => {
    using socket = await udpSocket({ hostname: name });
    expect([socket.hostname, socket.address.family]).toEqual([
      name, name.includes(":") ? "IPv6" : "IPv4",
    ]);
  });

  test("a connected one names its peer, and takes an address of the peer's family", async () => {
    using peer = await udpSocket({ hostname: "::1" });
    using socket = await udpSocket({ connect: { hostname: "::1", port: peer.port } });
    expect(socket.remoteAddress).toEqual({ address: "::1", family: "IPv6", port: peer.port });
    expect(socket.address).toEqual({ address: "::1", family: "IPv6", port: socket.port });
    const named = await udpSocket({ connect: { hostname: "localhost", port: peer.port } });
    named.close();
    expect(named.closed).toBe(true);
  });

  test("the port given is the port bound, and taken", async () => {
    using first = await socketWith();
    const taken = udpSocket({ hostname: LOOPBACK, port: first.port });
    expect(taken).rejects.toMatchObject({ code: "EADDRINUSE", operation: "udpSocket" });
    await taken.catch((error: UringError) => {
      expect(error.message).toContain(`127.0.0.1:${first.port}`);
    });
    using shared = await socketWith(new Inbox(), { reusePort: true });
    using again = await socketWith(new Inbox(), { reusePort: true, port: shared.port });
    expect(again.port).toBe(shared.port);
  });

  test("a name that does not exist, an address that is not here", async () => {
    const unknown = udpSocket({ hostname: "nowhere.invalid" });
    expect(unknown).rejects.toMatchObject({ code: "ENOTFOUND" });
    const foreign = udpSocket({ hostname: "192.0.2.1" });
    expect(foreign).rejects.toMatchObject({ code: "EADDRNOTAVAIL" });
    const zone = udpSocket({ hostname: "fe80::1%nothing" });
    expect(zone).rejects.toMatchObject({ code: "ENODEV" });
    await Promise.allSettled([unknown, foreign, zone]);
  });
});

interface Closable {
  close(): void;
}

/** Bun's sockets can be disposed of, though its types do not say so. */
const closing = <S extends Closable>(socket: S) => socket as S & Disposable;

describe("datagrams to and from Bun's own socket", () => {
  test("arrive with their sender's port and address, one by one", async () => {
    const ours = new Inbox();
    const theirs = new Inbox();
    using socket = await socketWith(ours);
    using bun = closing(await Bun.udpSocket({ hostname: LOOPBACK, socket: theirs.handlers }));
    expect(bun.send("to ours", socket.port, LOOPBACK)).toBe(true);
    expect(socket.send("to theirs", bun.port, LOOPBACK)).toBe(true);
    const expected = { address: LOOPBACK, truncated: false, ipv6: false };
    expect(await ours.received(1)).toEqual([
      { data: Buffer.from("to ours"), port: bun.port, ...expected },
    ]);
    expect(await theirs.received(1)).toEqual([
      { data: Buffer.from("to theirs"), port: socket.port, ...expected },
    ]);
  });

  test("over IPv6", async () => {
    const inbox = new Inbox();
    using socket = await udpSocket({ hostname: "::1", socket: inbox.handlers });
    using bun = closing(await Bun.udpSocket({ hostname: "::1" }));
    bun.send("six", socket.port, "::1");
    expect((await inbox.received(1))[0]).toMatchObject({
      port: bun.port, address: "::1", ipv6: true, truncated: false,
    });
  });

  test("an IPv6 socket speaks IPv4, too, unless it was told not to", async () => {
    const inbox = new Inbox();
    const far = new Inbox();
    using both = await udpSocket({ hostname: "::", socket: inbox.handlers });
    using ipv4 = await socketWith(far);
    ipv4.send("in", both.port, LOOPBACK);
    expect((await inbox.received(1))[0]).toMatchObject({
      address: "::ffff:127.0.0.1", port: ipv4.port, ipv6: true,
    });
    both.send("out", ipv4.port, LOOPBACK);
    both.send("mapped", ipv4.port, "::ffff:127.0.0.1");
    expect((await far.received(2)).map(({ port, address }) => [port, address])).toEqual([
      [both.port, LOOPBACK], [both.port, LOOPBACK],
    ]);
    using only = await udpSocket({ hostname: "::", ipv6Only: true });
    using beside = await udpSocket({ hostname: "0.0.0.0", port: only.port });
    expect(beside.port).toBe(only.port);
  });

  test("sendMany takes data, port and address in turn, or data alone where connected", async () => {
    const inbox = new Inbox();
    using socket = await socketWith(inbox);
    using loose = await socketWith();
    const to = [socket.port, LOOPBACK] as const;
    expect(loose.sendMany(["a", ...to, Buffer.from("b"), ...to])).toBe(2);
    using connected = await udpSocket({ connect: { hostname: LOOPBACK, port: socket.port } });
    expect(connected.sendMany(["c", new Uint16Array([1]), new ArrayBuffer(0)])).toBe(3);
    expect([loose.sendMany([]), connected.sendMany([])]).toEqual([0, 0]);
    await inbox.received(5);
    expect(inbox.mail.map(({ data, port }) => [data.toString("latin1"), port])).toEqual([
      ["a", loose.port], ["b", loose.port], ["c", connected.port],
      ["\x01\0", connected.port], ["", connected.port],
    ]);
  });

  test("binaryType says what data is", async () => {
    using sender = await socketWith();
    for (const [binaryType, type] of [
      ["buffer", Buffer], ["uint8array", Uint8Array], ["arraybuffer", ArrayBuffer],
    ] as const) {
      const got = Promise.withResolvers<unknown>();
      using socket = await udpSocket({
        hostname: LOOPBACK,
        binaryType,
        socket: { data: (_socket, data) => got.resolve(data) },
      });
      sender.send("abc", socket.port, LOOPBACK);
      const data = await got.promise as { byteLength: number };
      expect(data).toBeInstanceOf(type);
      expect([data.byteLength, socket.binaryType]).toEqual([3, binaryType]);
    }
  });
});

describe("what handlers do", () => {
  test("what they throw, and what they reject, is told to error", async () => {
    const inbox = new Inbox();
    let call = 0;
    using socket = await socketWith(inbox, {
      socket: {
        ...inbox.handlers,
        data: () => {
          call++;
          if (call === 1) throw new Error("thrown");
          if (call === 2) return Promise.reject(new Error("rejected"));
          throw "a string";
        },
      },
    });
    using sender = await socketWith();
    for (const text of ["1", "2", "3"]) sender.send(text, socket.port, LOOPBACK);
    const errors = await inbox.failed(3);
    expect(errors.map(({ message }) => message).sort()).toEqual(["a string", "rejected", "thrown"]);
  });

  test("without error what they throw goes to the process, and nothing stops", async () => {
    const { code, stdout } = await run(program("datagram_throws"));
    expect([code, stdout.trim()]).toEqual([0, "uncaught: thrown; then: second"]);
  });

  test("reload exchanges them, given plainly or as a socket", async () => {
    const [first, second, third] = [new Inbox(), new Inbox(), new Inbox()];
    using socket = await socketWith(first);
    using sender = await socketWith();
    sender.send("1", socket.port, LOOPBACK);
    await first.received(1);
    socket.reload(second.handlers);
    sender.send("2", socket.port, LOOPBACK);
    await second.received(1);
    socket.reload({ socket: third.handlers });
    sender.send("3", socket.port, LOOPBACK);
    await third.received(1);
    expect([first.texts, second.texts, third.texts]).toEqual([["1"], ["2"], ["3"]]);
  });

  test("a socket closed in its handler is told nothing more", async () => {
    const inbox = new Inbox();
    const other = new Inbox();
    const socket = await socketWith(inbox, {
      socket: {
        data(own: Closable, ...rest: Parameters<typeof inbox.handlers.data> extends
          [unknown, ...infer Rest] ? Rest : never) {
          inbox.handlers.data(own, ...rest);
          own.close();
        },
      },
    });
    using beside = await socketWith(other);
    using sender = await socketWith();
    const to = [socket.port, LOOPBACK] as const;
    sender.sendMany(["1", ...to, "2", ...to, "3", ...to]);
    sender.send("after", beside.port, LOOPBACK);
    await other.received(1);
    await turns(10);
    expect([inbox.texts, socket.closed]).toEqual([["1"], true]);
  });
});

describe("what the network answers", () => {
  test("a refused datagram is told to error, and the socket goes on", async () => {
    const inbox = new Inbox();
    const gone = await socketWith();
    const { port } = gone;
    using client = await udpSocket({
      connect: { hostname: LOOPBACK, port },
      socket: inbox.handlers,
    });
    gone.close();
    await until(() => Ring.default.inspect().datagramSockets === 1);
    for (let round = 1; round <= 3; round++) {
      expect(client.send("nobody")).toBe(true);
      await inbox.failed(round);
    }
    expect(inbox.errors.map((error) => (error as UringError).code)).toEqual(
      Array(3).fill("ECONNREFUSED"),
    );
    expect(inbox.errors[0]?.message).toContain(`127.0.0.1:${port}`);
    const later = new Inbox();
    using back = await socketWith(later, { port });
    client.sendMany(["here", "again"]);
    await later.received(2);
    expect([later.texts, back.port, client.closed]).toEqual([["here", "again"], port, false]);
  });

  test("an answer to an earlier datagram does not cost the next one", async () => {
    const gone = await socketWith();
    const { port } = gone;
    const client = new Inbox();
    using socket = await udpSocket({
      connect: { hostname: LOOPBACK, port },
      socket: client.handlers,
    });
    gone.close();
    for (let round = 0; round < 20; round++) {
      await until(() => Ring.default.inspect().datagramSockets === 1);
      const answered = client.errors.length;
      socket.send("lost");
      socket.flush(); // refused at once on loopback: the answer waits for whoever comes first
      const inbox = new Inbox();
      using back = await socketWith(inbox, { port });
      socket.send(`kept ${round}`);
      await inbox.received(1);
      expect([inbox.texts, back.port]).toEqual([[`kept ${round}`], port]);
      await client.failed(answered + 1);
    }
  });

  test("without an error handler answers are ignored", async () => {
    const { code, stdout, stderr } = await run(program("datagram_ignores"));
    expect([code, stdout.trim(), stderr]).toEqual([0, "went on", ""]);
  });

  test("a broadcast needs setBroadcast", async () => {
    const inbox = new Inbox();
    const errors = new Inbox();
    using everywhere = await udpSocket({ socket: inbox.handlers });
    using sender = await udpSocket({ socket: errors.handlers });
    sender.send("forbidden", everywhere.port, "127.255.255.255");
    expect((await errors.failed(1))[0]).toMatchObject({ code: "EACCES" });
    expect(sender.setBroadcast(true)).toBe(true);
    sender.send("to all", everywhere.port, "127.255.255.255");
    await inbox.received(1);
    expect(inbox.texts).toEqual(["to all"]);
  });
});

describe("what cannot be sent is refused at once", () => {
  const refused = async (call: () => unknown) => {
    try {
      call();
    } catch (error) {
      return (error as UringError).code;
    }
    return "taken";
  };

  test("too large, of another family, with or without an address", async () => {
    using socket = await socketWith();
    using six = await udpSocket({ hostname: "::1" });
    using connected = await udpSocket({ connect: { hostname: LOOPBACK, port: socket.port } });
    const port = socket.port;
    expect(await Promise.all([
      refused(() => socket.send(new Uint8Array(65508), port, LOOPBACK)),
      refused(() => six.send(new Uint8Array(65528), six.port, "::1")),
      refused(() => socket.send("x", port, "::1")),
      refused(() => connected.send("x", ...([port, LOOPBACK] as unknown as []))),
      refused(() => socket.send("x")),
      refused(() => socket.sendMany(["x", port])),
      refused(() => socket.send("x", port, "localhost")),
    ])).toEqual([
      "EMSGSIZE", "EMSGSIZE", "EAFNOSUPPORT", "EISCONN", "EINVAL", "EINVAL", "EINVAL",
    ]);
  });

  test("sendMany sends nothing if anything in it is wrong", async () => {
    const inbox = new Inbox();
    using socket = await socketWith(inbox);
    using sender = await socketWith();
    const to = [socket.port, LOOPBACK];
    expect(await refused(() => sender.sendMany(["a", ...to, 5, ...to]))).toBe("EINVAL");
    expect(await refused(() => sender.sendMany(["a", ...to, "b", 0, LOOPBACK]))).toBe("EINVAL");
    sender.send("only", socket.port, LOOPBACK);
    await inbox.received(1);
    await turns(5);
    expect(inbox.texts).toEqual(["only"]);
  });
});

describe("options of the socket", () => {
  const IPPROTO_IP = 0;
  const [IP_TTL, IP_MULTICAST_TTL, IP_MULTICAST_LOOP] = [2, 33, 34];
  const [SOL_SOCKET, SO_SNDBUF, SO_RCVBUF, SO_BROADCAST] = [1, 7, 8, 6];

  test("are those of the kernel", async () => {
    using socket = await socketWith(new Inbox(), { receiveBufferSize: 100_000 });
    const fd = udpDescriptor(socket.port);
    expect([socket.setTTL(9), socket.setMulticastTTL(3), socket.setMulticastLoopback(false)])
      .toEqual([9, 3, false]);
    expect([socket.setBroadcast(true), socket.setBroadcast(false)]).toEqual([true, false]);
    expect(socketOption(fd, IPPROTO_IP, IP_TTL)).toBe(9);
    expect(socketOption(fd, IPPROTO_IP, IP_MULTICAST_TTL) & 255).toBe(3);
    expect(socketOption(fd, IPPROTO_IP, IP_MULTICAST_LOOP) & 255).toBe(0);
    expect(socketOption(fd, SOL_SOCKET, SO_BROADCAST)).toBe(0);
    expect(socketOption(fd, SOL_SOCKET, SO_RCVBUF)).toBe(200_000); // socket(7): doubled
    using small = await socketWith(new Inbox(), { sendBufferSize: 10_000 });
    expect(socketOption(udpDescriptor(small.port), SOL_SOCKET, SO_SNDBUF)).toBe(20_000);
  });

  test("IPv6 sockets have them, too", async () => {
    using socket = await udpSocket({ hostname: "::1" });
    expect([socket.setTTL(9), socket.setMulticastTTL(0), socket.setMulticastLoopback(true)])
      .toEqual([9, 0, true]);
  });

  test("a multicast group is joined and left", async () => {
    const group = "224.0.0.114";
    const inbox = new Inbox();
    using member = await udpSocket({ socket: inbox.handlers });
    using sender = await udpSocket();
    expect(member.addMembership(group, LOOPBACK)).toBe(true);
    expect(sender.setMulticastInterface(LOOPBACK)).toBe(true);
    sender.send("to members", member.port, group);
    await inbox.received(1);
    expect(member.dropMembership(group, LOOPBACK)).toBe(true);
    expect(() => member.dropMembership(group, LOOPBACK)).toThrow("EADDRNOTAVAIL");
    sender.send("to nobody", member.port, group);
    sender.send("directly", member.port, LOOPBACK);
    await inbox.received(2);
    expect(inbox.texts).toEqual(["to members", "directly"]);
  });

  test("an IPv6 group is joined on an interface that an address's zone names", async () => {
    // No more than that: a machine may have no route for groups on its loopback interface.
    using member = await udpSocket({ hostname: "::" });
    expect(member.setMulticastInterface("::1%lo")).toBe(true);
    expect(member.addMembership("ff02::114", "::%1")).toBe(true);
    expect(() => member.addMembership("ff02::114", "::%lo")).toThrow("EADDRINUSE");
    expect(member.dropMembership("ff02::114", "::1%lo")).toBe(true);
    expect(() => member.dropMembership("ff02::114", "::1%lo")).toThrow("EADDRNOTAVAIL");
    expect(() => member.addMembership("ff02::114", LOOPBACK)).toThrow("EINVAL");
    expect(member.addSourceSpecificMembership("::1", "ff32::114", "::%lo")).toBe(true);
    expect(member.dropSourceSpecificMembership("::1", "ff32::114", "::%lo")).toBe(true);
  });

  test("a source-specific membership hears one source", async () => {
    const inbox = new Inbox();
    using member = await udpSocket({ socket: inbox.handlers });
    const group = "232.1.1.1";
    expect(member.addSourceSpecificMembership("127.0.0.2", group, LOOPBACK)).toBe(true);
    using stranger = await udpSocket({ hostname: LOOPBACK });
    using source = await udpSocket({ hostname: "127.0.0.2" });
    for (const sender of [stranger, source]) {
      sender.setMulticastInterface(LOOPBACK);
      sender.send(sender.hostname, member.port, group);
    }
    await inbox.received(1);
    expect(inbox.texts).toEqual(["127.0.0.2"]);
    expect(member.dropSourceSpecificMembership("127.0.0.2", group, LOOPBACK)).toBe(true);
    expect(() => member.addMembership(LOOPBACK)).toThrow(UringError); // no group
  });

});

describe("the end of a socket", () => {
  test("close ends it at once; what was sent before still leaves", async () => {
    const inbox = new Inbox();
    using socket = await socketWith(inbox);
    const sender = await socketWith();
    const before = udpDescriptor(sender.port);
    expect(before).toBeGreaterThan(0);
    sender.send("last words", socket.port, LOOPBACK);
    sender.close();
    sender.close();
    expect(sender.closed).toBe(true);
    await inbox.received(1);
    expect(inbox.texts).toEqual(["last words"]);
    using next = await socketWith(new Inbox(), { port: sender.port });
    expect(next.port).toBe(sender.port);
  });

  test("a closed one refuses what needs it, and answers the rest", async () => {
    const socket = await socketWith();
    const { port } = socket;
    socket.close();
    const calls = [
      () => socket.send("x", port, LOOPBACK),
      () => socket.sendMany(["x", port, LOOPBACK]),
      () => socket.setTTL(5),
      () => socket.setBroadcast(true),
      () => socket.addMembership("224.0.0.114"),
    ];
    for (const call of calls) expect(call).toThrow(/ESHUTDOWN|EBADF/);
    expect([socket.ref(), socket.unref(), socket.close(), socket.flush()]).toEqual([
      socket, socket, undefined, undefined,
    ] as never);
    expect([socket.port, socket.address.port, socket.hostname]).toEqual([port, port, LOOPBACK]);
    socket.reload({});
  });

  test("a ring that is closed closes its sockets", async () => {
    const ring = new Ring();
    const inbox = new Inbox();
    const socket = await socketWith(inbox, { ring });
    expect([ring.inspect().datagramSockets, ring.pendingCount]).toEqual([1, 1]);
    const fd = udpDescriptor(socket.port);
    await ring.close();
    expect(socket.closed).toBe(true);
    expect(() => udpDescriptor(socket.port)).toThrow("no descriptor");
    expect(fd).toBeGreaterThan(0);
    expect(() => socket.send("x", 9, LOOPBACK)).toThrow("ESHUTDOWN");
    expect((inbox.errors[0] as UringError).code).toBe("ECANCELED");
    expect(() => udpSocket({ ring })).toThrow("ESHUTDOWN");
  });

  test("the process ends when its sockets are closed or unref'ed", async () => {
    const { code, stdout } = await run(program("datagram_exits"), { timeoutMs: 15_000 });
    expect([code, stdout.trim()]).toEqual([0, "sent"]);
  });
});
