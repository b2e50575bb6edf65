// The PROXY protocol as an option of listen: headers of both versions in any pieces, the addresses
// that they name, and what becomes of connections that do not begin with one. The clients are
// node:net's.

import { afterAll, describe, expect, test } from "bun:test";
import * as net from "node:net";
import { listen, Ring, UringError, type RingOptions, type Socket } from "../ts/index.ts";
import { Random } from "./support/random.ts";
import { turns, until } from "./support/until.ts";

const LOOPBACK = "127.0.0.1";
const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

interface Ends {
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
}

const ENDS: Ends = {
  source: "192.0.2.7", destination: "198.51.100.9", sourcePort: 56324, destinationPort: 443,
};
const ENDS6: Ends = { ...ENDS, source: "2001:db8::7", destination: "::1" };

function version1({ source, destination, sourcePort, destinationPort }: Ends): Buffer {
  const family = net.isIP(source) === 6 ? "TCP6" : "TCP4";
  const words = ["PROXY", family, source, destination, sourcePort, destinationPort];
  return Buffer.from(`${words.join(" ")}\r\n`);
}

function addressBytes(address: string): Buffer {
  if (net.isIP(address) === 4) return Buffer.from(address.split(".").map(Number));
  const [head = "", tail = ""] = address.split("::");
  const words = (text: string) => (text === "" ? [] : text.split(":"));
  const zeros = Array<string>(8 - words(head).length - words(tail).length).fill("0");
  const all = address.includes("::") ? [...words(head), ...zeros, ...words(tail)] : words(head);
  return Buffer.from(all.flatMap((word) => {
    const number = Number.parseInt(word, 16);
    return [number >> 8, number & 255];
  }));
}

function version2({ source, destination, sourcePort, destinationPort }: Ends, tlvs = ""): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(sourcePort, 0);
  ports.writeUInt16BE(destinationPort, 2);
  const block = [addressBytes(source), addressBytes(destination), ports, Buffer.from(tlvs)];
  return binary(0x21, net.isIP(source) === 6 ? 0x21 : 0x11, Buffer.concat(block));
}

function binary(command: number, family: number, block: Buffer): Buffer {
  const fixed = Buffer.alloc(4);
  fixed.writeUInt8(command, 0);
  fixed.writeUInt8(family, 1);
  fixed.writeUInt16BE(block.length, 2);
  return Buffer.concat([SIGNATURE, fixed, block]);
}

function versionUnix(source: string, destination: string): Buffer {
  const block = Buffer.alloc(216);
  block.write(source, 0);
  block.write(destination, 108);
  return binary(0x21, 0x31, block);
}

/** A server that writes down whom it met; sockets answer "got " and what came. */
function server(options: RingOptions & { timeout?: number } = {}) {
  const { timeout, ...ringOptions } = options;
  const ring = new Ring(ringOptions);
  const log: string[] = [];
  const sockets: Socket[] = [];
  const listener = listen({
    hostname: LOOPBACK,
    port: 0,
    ring,
    proxyProtocol: timeout === undefined ? true : { timeout },
    socket: {
      open(socket) {
        sockets.push(socket);
        log.push(`open ${socket.remoteAddress} ${socket.remotePort} ${socket.remoteFamily}`);
      },
      data(socket, chunk) {
        log.push(`data ${chunk}`);
        socket.write(`got ${chunk}`);
      },
      end: () => void log.push("end"),
      close: () => void log.push("close"),
    },
  });
  const port = listener.port as number;
  const stats = () => {
    const { proxy_absent, proxy_incomplete, proxy_late, proxy_malformed } = ring.stats();
    return { proxy_absent, proxy_incomplete, proxy_late, proxy_malformed };
  };
  return {
    ring, log, sockets, listener, port, stats,
    async [Symbol.asyncDispose]() {
      listener.stop(true);
      await ring.close({ cancel: true });
    },
  };
}

const NOBODY = { proxy_absent: 0, proxy_incomplete: 0, proxy_late: 0, proxy_malformed: 0 };

/** A client with what it received and how it ended. */
async function client(port: number) {
  const socket = net.connect({ host: LOOPBACK, port, noDelay: true });
  let text = "";
  const ended = Promise.withResolvers<string>();
  socket.on("data", (chunk: Buffer) => void (text += chunk));
  socket.on("error", (error: NodeJS.ErrnoException) => ended.resolve(error.code ?? "error"));
  socket.on("close", () => ended.resolve("close"));
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  return {
    socket,
    text: () => text,
    ended: ended.promise,
    write: (bytes: Uint8Array | string) => new Promise<void>((resolve) => {
      socket.write(bytes, () => resolve());
    }),
    [Symbol.dispose]: () => void socket.destroy(),
  };
}

const HEADERS: [string, Buffer, string][] = [
  ["version 1 over IPv4", version1(ENDS), "open 192.0.2.7 56324 IPv4"],
  ["version 1 over IPv6", version1(ENDS6), "open 2001:db8::7 56324 IPv6"],
  ["version 2 over IPv4", version2(ENDS), "open 192.0.2.7 56324 IPv4"],
  ["version 2 over IPv6", version2(ENDS6), "open 2001:db8::7 56324 IPv6"],
  ["version 2 with TLVs", version2(ENDS, "\x03\0\x04abcd"), "open 192.0.2.7 56324 IPv4"],
  // A Unix socket has no address that Bun's names have a place for.
  ["version 2 over Unix", versionUnix("/run/a", "/run/b"), "open undefined undefined undefined"],
];

describe.each(HEADERS)("%s", (_name, header, open) => {
  test("names the client, and what follows is data", async () => {
    await using at = server();
    using peer = await client(at.port);
    await peer.write(Buffer.concat([header, Buffer.from("hello")]));
    await until(() => peer.text() === "got hello");
    expect(at.log).toEqual([open, "data hello"]);
    expect(at.stats()).toEqual(NOBODY);
  });

  test("may come byte by byte", async () => {
    await using at = server();
    using peer = await client(at.port);
    for (const byte of header) await peer.write(Uint8Array.of(byte));
    await peer.write("hello");
    await until(() => peer.text() === "got hello");
    expect(at.log.join(" ")).toBe(`${open} data hello`);
  });
});

test("the end that was connected to is what the header says, too", async () => {
  await using at = server();
  using peer = await client(at.port);
  await peer.write(version2(ENDS));
  await until(() => at.sockets.length === 1);
  const [socket] = at.sockets as [Socket];
  expect([socket.localAddress, socket.localPort, socket.localFamily]).toEqual([
    "198.51.100.9", 443, "IPv4",
  ]);
  expect(at.log).toEqual(["open 192.0.2.7 56324 IPv4"]);
});

describe("a proxy that speaks for itself", () => {
  const own: [string, Buffer][] = [
    ["LOCAL", binary(0x20, 0, Buffer.alloc(0))],
    ["LOCAL with addresses", binary(0x20, 0x11, Buffer.alloc(12, 7))],
    ["an unspecified family", binary(0x21, 0, Buffer.from("anything"))],
    ["UNKNOWN", Buffer.from("PROXY UNKNOWN\r\n")],
    ["UNKNOWN with addresses", Buffer.from("PROXY UNKNOWN 1.2.3.4 5.6.7.8 9 10\r\n")],
  ];
  test.each(own)("%s: the addresses are the connection's own", async (_name, header) => {
    await using at = server();
    using peer = await client(at.port);
    await peer.write(Buffer.concat([header, Buffer.from("x")]));
    await until(() => peer.text() === "got x");
    expect(at.log[0]).toBe(`open ${LOOPBACK} ${peer.socket.localPort} IPv4`);
  });
});

test("a header as long as there can be one is skipped", async () => {
  await using at = server();
  using peer = await client(at.port);
  const tlvs = Buffer.alloc(65535 - 12, 0xee);
  const block = Buffer.concat([version2(ENDS).subarray(16), tlvs]);
  await peer.write(Buffer.concat([binary(0x21, 0x11, block), Buffer.from("behind")]));
  await until(() => peer.text() === "got behind");
  expect(at.log).toEqual(["open 192.0.2.7 56324 IPv4", "data behind"]);
});

test.each(["all", "one-shot"])("cut anywhere, what follows arrives whole: %s", async (which) => {
  const disable = which === "all" ? [] : ["multishot_receive", "multishot_accept"] as const;
  await using at = server({ disable, receiveBufferSize: 64 });
  const random = new Random(11);
  for (let round = 0; round < 25; round++) {
    const [, header = Buffer.alloc(0), open] = HEADERS[round % HEADERS.length] ?? [];
    const peer = await client(at.port);
    at.log.length = 0;
    const body = `round ${round} ${"x".repeat(random.between(0, 300))}.`;
    const bytes = Buffer.concat([header, Buffer.from(body)]);
    for (let start = 0; start < bytes.length;) {
      const end = Math.min(bytes.length, start + random.size(1, bytes.length));
      await peer.write(bytes.subarray(start, end));
      start = end;
      if (random.chance(0.5)) await turns(1);
    }
    await until(() => at.log.join("").endsWith("."));
    expect(at.log[0]).toBe(open as string);
    const data = at.log.slice(1).map((line) => line.replace("data ", "")).join("");
    expect(data).toBe(body);
    peer.socket.destroy();
    await until(() => at.log.includes("close"));
  }
  expect(at.stats()).toEqual(NOBODY);
});

describe("a connection that does not begin with a header", () => {
  const wrong: [string, Buffer | string, Partial<typeof NOBODY>][] = [
    ["HTTP", "GET / HTTP/1.1\r\n\r\n", { proxy_absent: 1 }],
    ["TLS", Buffer.from("1603010200", "hex"), { proxy_absent: 1 }],
    ["something that begins like one", "PROXI", { proxy_absent: 1 }],
    ["a port that is none", "PROXY TCP4 1.2.3.4 5.6.7.8 70000 1\r\n", { proxy_malformed: 1 }],
    ["a line without end", `PROXY UNKNOWN ${"x".repeat(100)}`, { proxy_malformed: 1 }],
    ["another version", Buffer.concat([SIGNATURE, Buffer.of(0x31)]), { proxy_malformed: 1 }],
    ["too few addresses", binary(0x21, 0x21, Buffer.alloc(12)), { proxy_malformed: 1 }],
  ];
  test.each(wrong)("%s: it is reset, counted, and nobody hears of it", async (_name, bytes, n) => {
    await using at = server();
    using peer = await client(at.port);
    await peer.write(bytes);
    expect(await peer.ended).toMatch(/ECONNRESET|close/);
    await until(() => at.stats().proxy_absent + at.stats().proxy_malformed === 1);
    expect([at.stats(), at.log]).toEqual([{ ...NOBODY, ...n }, []]);
    expect(at.ring.inspect().connections).toBe(0);
  });

  test("one that says nothing is given up after its time", async () => {
    await using at = server({ timeout: 60 });
    const start = performance.now();
    using peer = await client(at.port);
    expect(await peer.ended).toMatch(/ECONNRESET|close/);
    expect(performance.now() - start).toBeGreaterThanOrEqual(59);
    await until(() => at.stats().proxy_late === 1);
    expect(at.log).toEqual([]);
  });

  test("one that stops in the middle is given up, one in time is not", async () => {
    await using at = server({ timeout: 400 });
    using slow = await client(at.port);
    using quick = await client(at.port);
    await slow.write(version1(ENDS).subarray(0, 20));
    await quick.write(version2(ENDS));
    expect(await slow.ended).toMatch(/ECONNRESET|close/);
    await quick.write("still here");
    await until(() => quick.text() === "got still here");
    expect(at.stats()).toEqual({ ...NOBODY, proxy_late: 1 });
    expect(at.log).toEqual(["open 192.0.2.7 56324 IPv4", "data still here"]);
  });

  test("one that ends or breaks before its header is complete is counted", async () => {
    await using at = server();
    using ends = await client(at.port);
    await ends.write("PROXY TCP4 ");
    ends.socket.end();
    await ends.ended;
    await until(() => at.stats().proxy_incomplete === 1);
    const breaks = await client(at.port);
    await breaks.write("PROXY TCP4 ");
    breaks.socket.resetAndDestroy();
    await until(() => at.stats().proxy_incomplete === 2);
    expect([at.log, at.ring.inspect().connections]).toEqual([[], 0]);
  });
});

test("a listener that stops resets those whose header has not come, and closes", async () => {
  const at = server();
  using waiting = await client(at.port);
  using open = await client(at.port);
  await waiting.write("PROXY ");
  await open.write(version1(ENDS));
  await until(() => at.sockets.length === 1);
  at.listener.stop();
  expect(await waiting.ended).toMatch(/ECONNRESET|close/);
  await open.write("goes on");
  await until(() => open.text() === "got goes on");
  open.socket.end();
  await until(() => at.log.includes("close"));
  await until(() => at.ring.pendingCount === 0);
  expect(at.stats()).toEqual(NOBODY);
  await at.ring.close();
});

test("over a Unix socket, too", async () => {
  await using ring = new Ring();
  const opened = Promise.withResolvers<string>();
  using listener = listen({
    unix: `\0bun-uring-${crypto.randomUUID()}`,
    ring,
    proxyProtocol: true,
    socket: { open: (socket) => opened.resolve(`${socket.remoteAddress} ${socket.remotePort}`) },
  });
  const socket = net.connect({ path: listener.unix as string });
  socket.write(version2(ENDS));
  expect(await opened.promise).toBe("192.0.2.7 56324");
  socket.destroy();
});

const WRONG = [null, 7, "required", "optional", [[1]], { timeout: 0 }, { timeout: "5" }, {
  timeout: null,
}];
test.each(WRONG)("proxyProtocol refuses %p", (given) => {
  const socket = { data() {} };
  const call = () => listen({ port: 0, proxyProtocol: given as never, socket });
  expect(call).toThrow(UringError);
  expect(call).toThrow(/proxyProtocol.* must be .+, not ./);
});

afterAll(() => expect(Ring.default.pendingCount).toBe(0));
