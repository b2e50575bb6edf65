// Unix datagram sockets: bound to a path, to an abstract name or to one that the kernel gives.
//
// They lose nothing and keep the order, also when a receiver's short queue is full; datagrams that
// are too large for us are cut and say so; descriptors that a peer passes are not kept.

import { describe, expect, test } from "bun:test";
import { closeSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ring, udpSocket, type UringError } from "../ts/index.ts";
import { Inbox, numbered } from "./support/datagrams.ts";
import { until } from "./support/until.ts";

function folder(): { path(name: string): string } & Disposable {
  const place = mkdtempSync(join(tmpdir(), "bun-uring-"));
  return {
    path: (name) => join(place, name),
    [Symbol.dispose]: () => rmSync(place, { recursive: true, force: true }),
  };
}

describe("a path", () => {
  test("is there while the socket is open, and names the sender", async () => {
    using place = folder();
    const [first, second] = [place.path("a"), place.path("b")];
    const inbox = new Inbox();
    const a = await udpSocket({ unix: first, socket: inbox.handlers });
    using b = await udpSocket({ unix: second });
    expect([a.address, a.port, a.hostname]).toEqual([
      { address: first, family: "unix", port: 0 }, 0, first,
    ]);
    expect(b.send("hello", first)).toBe(true);
    expect(b.sendMany(["and", first, "more", first])).toBe(2);
    await inbox.received(3);
    expect(inbox.texts).toEqual(["hello", "and", "more"]);
    expect(inbox.mail[0]).toEqual({
      data: Buffer.from("hello"), port: 0, address: second, truncated: false, ipv6: false,
    });
    expect(existsSync(first)).toBe(true);
    a.close();
    expect(existsSync(first)).toBe(false);
    using again = await udpSocket({ unix: first });
    expect(again.closed).toBe(false);
  });

  test("that is taken is refused and left alone", async () => {
    using place = folder();
    writeFileSync(place.path("file"), "mine");
    const taken = udpSocket({ unix: place.path("file") });
    expect(taken).rejects.toMatchObject({ code: "EADDRINUSE" });
    await taken.catch((error: UringError) => expect(error.message).toContain(place.path("file")));
    expect(existsSync(place.path("file"))).toBe(true);
  });

  test("may be abstract, with any bytes", async () => {
    const name = `\0bun-uring-${crypto.randomUUID()}`;
    const inbox = new Inbox();
    using socket = await udpSocket({ unix: name, socket: inbox.handlers });
    using sender = await udpSocket({ unix: `${name}-sender` });
    sender.send("x", name);
    expect((await inbox.received(1))[0]?.address).toBe(`${name}-sender`);
    expect(socket.address.address).toBe(name);
  });

  test("that nobody is bound to, and one that refuses, are told to error", async () => {
    using place = folder();
    const inbox = new Inbox();
    using socket = await udpSocket({ unix: place.path("a"), socket: inbox.handlers });
    socket.send("x", place.path("nowhere"));
    expect((await inbox.failed(1))[0]).toMatchObject({ code: "ENOENT" });
    const gone = await udpSocket({ unix: place.path("gone") });
    const bare = await udpSocket({ connect: { unix: place.path("gone") }, socket: inbox.handlers });
    gone.close();
    await until(() => Ring.default.inspect().datagramSockets === 2);
    bare.send("x");
    expect((await inbox.failed(2))[1]).toMatchObject({ code: "ECONNREFUSED" });
    expect(bare.closed).toBe(false);
    bare.close();
  });
});

describe("connected sockets", () => {
  test("have a name of their own, so that the peer can answer", async () => {
    using place = folder();
    const inbox = new Inbox();
    using server = await udpSocket({
      unix: place.path("server"),
      socket: { data: (socket, data, _port, path) => void socket.send(`re: ${data}`, path) },
    });
    using client = await udpSocket({
      connect: { unix: place.path("server") },
      socket: inbox.handlers,
    });
    expect(client.remoteAddress).toEqual({
      address: place.path("server"), family: "unix", port: 0,
    });
    expect(client.address.address).toMatch(/^\0[0-9a-f]{5}$/); // autobind in unix(7)
    expect([client.send("1"), client.sendMany(["2", "3"])]).toEqual([true, 2]);
    await inbox.received(3);
    expect(inbox.texts).toEqual(["re: 1", "re: 2", "re: 3"]);
    expect(inbox.mail[0]?.address).toBe(place.path("server"));
    expect(server.closed).toBe(false);
  });
});

describe.each([[[]], [["multishot_recvmsg"]]] as const)("with %j masked", (disable) => {
  test("a receiver that is slow loses nothing, and order stands", async () => {
    using place = folder();
    await using ring = new Ring({ disable });
    const inbox = new Inbox();
    const outbox = new Inbox();
    using server = await udpSocket({ unix: place.path("s"), ring, socket: inbox.handlers });
    using client = await udpSocket({
      unix: place.path("c"),
      ring,
      socket: outbox.handlers,
    });
    // Far more than its queue holds: net.unix.max_dgram_qlen.
    for (let number = 0; number < 1000; number++) {
      for (;;) {
        const { drained } = outbox;
        if (client.send(numbered(number, 5 + (number % 3000)), place.path("s"))) break;
        await drained;
      }
    }
    await inbox.received(1000);
    expect(inbox.mail.every(({ data }, number) => {
      return data.equals(numbered(number, 5 + (number % 3000)));
    })).toBe(true);
    expect([inbox.mail.length, outbox.errors.length, server.closed]).toEqual([1000, 0, false]);
  });

  test("a receiver that never reads holds nobody up who closes", async () => {
    using place = folder();
    await using ring = new Ring({ disable });
    const path = place.path("deaf");
    const deaf = await ring.socket("unix", "datagram");
    await ring.bind(deaf, { unix: path });
    const client = await udpSocket({ connect: { unix: path }, ring });
    for (let number = 0; number < 100; number++) client.send(`${number}`);
    client.flush();
    client.close();
    await until(() => ring.inspect().datagramSockets === 0);
    closeSync(deaf);
  });

  test("what is larger than 64 KiB is cut, and says so", async () => {
    using place = folder();
    await using ring = new Ring({ disable });
    const inbox = new Inbox();
    using server = await udpSocket({ unix: place.path("s"), ring, socket: inbox.handlers });
    using client = await udpSocket({ connect: { unix: place.path("s") }, ring });
    expect(() => client.send(new Uint8Array(65537))).toThrow("EMSGSIZE");
    client.send(numbered(1, 65536));
    await inbox.received(1);
    const foreign = await ring.socket("unix", "datagram");
    await ring.connect(foreign, { unix: place.path("s") });
    expect((await ring.send(foreign, numbered(2, 100_000))).bytes).toBe(100_000);
    await inbox.received(2);
    expect(inbox.mail.map(({ data, truncated, address }) => [data.length, truncated, address]))
      .toEqual([
        [65536, false, client.address.address],
        [65536, true, ""], // a sender without a name has no address
      ]);
    expect(inbox.mail[1]?.data.equals(numbered(2, 100_000).subarray(0, 65536))).toBe(true);
    expect([ring.stats().datagrams_truncated, server.closed]).toEqual([1, false]);
    closeSync(foreign);
  });
});
