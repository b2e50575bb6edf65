// The example as its readers run it: what it prints, how it stops, what it says when it cannot
// start, and that its echo is complete for a peer that reads slowly.

import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import * as net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { backend } from "./support/backend.ts";
import { exchange, run, start } from "./support/child.ts";
import { echoClient } from "./support/echo.ts";
import { seeded } from "./support/random.ts";

const PATH = fileURLToPath(new URL("../examples/echo-server.ts", import.meta.url));

/** Reads what a program prints until `pattern` is in it. */
async function printed(
  reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
  pattern: RegExp,
): Promise<RegExpExecArray> {
  let text = "";
  for (;;) {
    const match = pattern.exec(text);
    if (match !== null) return match;
    const { done, value } = await reader.read();
    if (done) throw new Error(`it printed only ${JSON.stringify(text)}`);
    text += Buffer.from(value ?? []).toString();
  }
}

async function echoServer(...options: string[]) {
  const child = start(PATH, { arguments: options });
  const reader = child.stdout.getReader();
  const address = /^echo on (.+)\nbackend (\S+): (.+)\n/;
  const [, where = "", backend, reason] = await printed(reader, address);
  const port = Number(where.split(":").at(-1));
  return {
    child,
    reader,
    where,
    port,
    backend,
    reason,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

describe("echo-server", () => {
  test("says where it listens and on what, and echoes", async () => {
    await using server = await echoServer("--port", "0");
    expect(server.where).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(server.backend).toBe(backend);
    expect(server.reason?.length).toBeGreaterThan(10);
    expect(await exchange(server.port, "hello")).toBe("hello");
  });

  test.each(["SIGINT", "SIGTERM"] as const)("drains on %s, then exits with 0", async (signal) => {
    await using server = await echoServer("--port", "0");
    const client = net.connect({ host: "127.0.0.1", port: server.port });
    const chunks: Buffer[] = [];
    const closed = new Promise((resolve) => client.on("close", resolve));
    const echoed = new Promise<void>((resolve) => {
      client.on("data", (chunk: Buffer) => {
        chunks.push(chunk);
        if (Buffer.concat(chunks).length === 3 * 2 ** 20) resolve();
      });
    });
    client.write(Buffer.alloc(3 * 2 ** 20, 7));
    await echoed;
    server.child.kill(signal);
    await printed(server.reader, /^1 connections, \d+ messages, 3\.0 MiB$/m);
    expect(await server.child.exited).toBe(0);
    expect(await server.child.stderr.text()).toBe("");
    await closed;
  });

  test("listens on a Unix path and removes it at the end", async () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-uring-"));
    using _folder = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
    const unix = join(folder, "echo");
    await using server = await echoServer("--unix", unix);
    expect(server.where).toBe(unix);
    const plan = { bytes: Buffer.from("over a path"), pieces: [11], halfClose: true };
    expect((await echoClient("node", { unix }, plan)).toString()).toBe("over a path");
    server.child.kill("SIGINT");
    expect(await server.child.exited).toBe(0);
    expect(await Bun.file(unix).exists()).toBe(false);
  });

  test("gives a slow reader everything back", async () => {
    await using server = await echoServer("--port", "0");
    await seeded(async (random) => {
      const bytes = random.bytes(24 * 2 ** 20);
      const socket = net.connect({ host: "127.0.0.1", port: server.port });
      socket.end(bytes);
      const chunks: Buffer[] = [];
      const closed = Promise.withResolvers<void>();
      socket.on("error", closed.reject);
      socket.on("close", () => closed.resolve());
      // Nothing is read until the server can take no more.
      let written = -1;
      const timer = setInterval(() => {
        if (socket.bytesWritten !== written) {
          written = socket.bytesWritten;
          return;
        }
        clearInterval(timer);
        socket.on("data", (chunk: Buffer) => void chunks.push(chunk));
      }, 50);
      await closed.promise;
      const received = Buffer.concat(chunks);
      expect(received.length).toBe(bytes.length);
      expect(Buffer.compare(received, bytes)).toBe(0);
    });
  });

  test("a taken port is one clear line and exit code 1", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const options = { arguments: ["--port", String(taken.port)] };
    const { code, stdout, stderr } = await run(PATH, options);
    taken.stop(true);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stderr).toContain("EADDRINUSE");
    expect(stderr).toContain(String(taken.port));
  });

  test.each([["--prot", "7000"], ["--port", "x"], ["--port", "65536"], ["--port"], ["extra"]])(
    "%s %s is one clear line and exit code 1",
    async (...options: unknown[]) => {
      const words = options.filter((word): word is string => typeof word === "string");
      const { code, stdout, stderr } = await run(PATH, { arguments: words });
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    },
  );
});

describe("proxy", () => {
  const path = fileURLToPath(new URL("../examples/proxy.ts", import.meta.url));

  test("passes a connection on, both ways, and says how much", async () => {
    const upstream = net.createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
    const { port } = upstream.address() as net.AddressInfo;
    const child = start(path, { arguments: ["--port", "0", "--to", `127.0.0.1:${port}`] });
    using _child = { [Symbol.dispose]: () => child.kill("SIGKILL") };
    const reader = child.stdout.getReader();
    const [, where = ""] = await printed(reader, /^proxy on (\S+) to/);
    const bytes = Buffer.alloc(1 << 20, "what the client says, ");
    const place = { hostname: "127.0.0.1", port: Number(where.split(":").at(-1)) };
    const echo = await echoClient("node", place, { bytes, pieces: [1 << 20], halfClose: true });
    expect(echo.equals(bytes)).toBe(true);
    await printed(reader, /127\.0\.0\.1: 1048576 bytes there, 1048576 back/);
    child.kill("SIGINT");
    expect(await child.exited).toBe(0);
    upstream.close();
  });

  const WRONG: [string[], string][] = [
    [[], "usage: "],
    [["--to", "here"], "usage: "],
    [["--from", "here"], "Unknown option '--from'"],
    [["--port", "x", "--to", "127.0.0.1:1"], "EINVAL: listen: port"],
  ];

  test.each(WRONG)("says what is wrong with %p, in one line", async (words, start) => {
    const { code, stderr } = await run(path, { arguments: words });
    expect([code, stderr.trimEnd().split("\n").length]).toEqual([1, 1]);
    expect(stderr).toStartWith(start);
  });
});

describe("serve", () => {
  const path = fileURLToPath(new URL("../examples/serve.ts", import.meta.url));

  test("stores and answers, and ends idle sessions on SIGTERM", async () => {
    const child = start(path, { arguments: ["--port", "0", "--workers", "1"] });
    using _child = { [Symbol.dispose]: () => child.kill("SIGKILL") };
    const [, where = ""] = await printed(child.stdout.getReader(), /^1 Workers on (\S+)\n/);
    const client = net.connect({ host: "127.0.0.1", port: Number(where.split(":").at(-1)) });
    const closed = new Promise((resolve) => client.on("close", resolve));
    let text = "";
    const answered = new Promise<void>((resolve) => {
      client.on("data", (chunk: Buffer) => {
        text += chunk;
        if (text.split("\n").length === 5) resolve();
      });
    });
    client.write("set a 1 2\nget a\nget b\ncou");
    client.write("nt\n");
    await answered;
    expect(text).toBe("ok\n1 2\nnone\n1 in Worker 0\n");
    child.kill("SIGTERM");
    expect([await child.exited, await child.stderr.text()]).toEqual([0, ""]);
    await closed;
  });

  test("a taken port is one clear line and exit code 1", async () => {
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    const { code, stderr } = await run(path, { arguments: ["--port", String(taken.port)] });
    taken.stop(true);
    expect([code, stderr.trimEnd().split("\n").length]).toEqual([1, 1]);
    expect(stderr).toContain("EADDRINUSE");
  });
});
