// What a server does to its process: signals that drain it or end it at once, descriptors that a
// service manager has passed. Each in a process of its own.

import { describe, expect, test } from "bun:test";
import { listenFds, Ring } from "../ts/index.ts";
import { readAddress } from "../ts/memory.ts";
import { native } from "../ts/native.ts";
import { program } from "./support/child.ts";
import { Client, refuses } from "./support/serving.ts";
import { until } from "./support/until.ts";

interface Manager {
  /** Passed as descriptor 3. */
  fd: number;
  environment: string;
}

async function serving(argv: string[], manager?: Manager) {
  const command = [process.execPath, program("serving"), ...argv];
  // A service manager knows the process' number before it runs the program; so does a shell.
  const script = `${manager?.environment ?? ""} exec "$@"`;
  const child = Bun.spawn(["sh", "-c", script, "sh", ...command], {
    stdio: ["ignore", "pipe", "pipe", ...(manager === undefined ? [] : [manager.fd])],
    timeout: 25_000,
    killSignal: "SIGKILL",
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  const [port = "", name, left] = Buffer.from(value ?? []).toString().trimEnd().split(" ");
  return {
    child,
    port: Number(port),
    unix: undefined,
    name,
    left,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

describe("the first signal", () => {
  test.each(["SIGTERM", "SIGINT"] as const)("%s drains, then the code is 0", async (signal) => {
    await using server = await serving(["20000"]);
    using client = await Client.connect(server);
    expect(await client.ask("before")).toBe("before");
    server.child.kill(signal);
    await until(() => refuses(server), "nobody listens");
    expect(await client.ask("after")).toBe("after");
    client.end();
    expect([await server.child.exited, server.child.signalCode]).toEqual([0, null]);
    expect(await server.child.stderr.text()).toBe("");
  });

  test("ends a server that has not begun", async () => {
    await using server = await serving(["20000", "stuck"]);
    server.child.kill("SIGTERM");
    expect([await server.child.exited, server.child.signalCode]).toEqual([0, null]);
  });

  test("does not wait longer than the limit", async () => {
    await using server = await serving(["10"]);
    using client = await Client.connect(server);
    expect(await client.ask("hello")).toBe("hello");
    server.child.kill("SIGTERM");
    expect(await server.child.exited).toBe(0);
    expect(await client.next()).toBe("closed");
  });
});

describe("a second signal", () => {
  async function twice(...argv: string[]) {
    await using server = await serving(["20000", ...argv]);
    using client = await Client.connect(server);
    expect(await client.ask("hello")).toBe("hello");
    server.child.kill("SIGTERM");
    await until(() => refuses(server), "nobody listens");
    server.child.kill("SIGTERM");
    const code = await server.child.exited;
    return [code, server.child.signalCode];
  }

  test("ends the process at once, by that signal", async () => {
    expect(await twice()).toEqual([143, "SIGTERM"]);
  });

  test("ends it also where somebody else has a handler", async () => {
    expect(await twice("handler")).toEqual([143, null]);
  });
});

describe("socket activation", () => {
  /** A socket that listens, as a service manager has it. */
  async function listening() {
    const ring = new Ring();
    const fd = await ring.socket("ipv4");
    await ring.bind(fd, { hostname: "127.0.0.1", port: 0 });
    await ring.listen(fd);
    const address = readAddress((out) => native.bu_socket_name(ring.handle, fd, out));
    return {
      fd,
      port: address?.port,
      unix: undefined,
      async [Symbol.asyncDispose]() {
        await ring.close(fd);
        await ring.close();
      },
    };
  }

  const environment = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web";

  test.each(["serve", "listen"])("%s takes the descriptor that was passed", async (what) => {
    await using manager = await listening();
    await using server = await serving(["10", what], { fd: manager.fd, environment });
    expect([server.port, server.name, server.left]).toEqual([manager.port ?? 0, "web", "0,,"]);
    using client = await Client.connect(manager);
    expect(await client.ask("hello")).toBe("hello");
    if (what === "listen") return;
    server.child.kill("SIGTERM");
    expect(await server.child.exited).toBe(0);
    // The manager's socket still listens: the next start finds who came meanwhile.
    using waiting = await Client.connect(manager);
    waiting.write("still here");
    await using next = await serving(["10", what], { fd: manager.fd, environment });
    expect([next.port, await waiting.next()]).toEqual([manager.port ?? 0, "still here"]);
  });

  test("what was meant for another process is not taken", async () => {
    await using manager = await listening();
    const stranger = { fd: manager.fd, environment: "LISTEN_PID=1 LISTEN_FDS=1" };
    await using server = await serving(["10"], stranger);
    expect([server.port === manager.port, server.name, server.left]).toEqual([
      false, "none", "0,1,1",
    ]);
  });

  const MALFORMED: [string, string][] = [["LISTEN_FDS", "x"], ["LISTEN_FDS", "70000"]];

  test.each(MALFORMED)("%s=%s is refused", (name, text) => {
    const before = { ...process.env };
    Object.assign(process.env, { LISTEN_PID: `${process.pid}`, [name]: text });
    try {
      expect(() => listenFds()).toThrow(name);
    } finally {
      for (const key of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) {
        if (before[key] === undefined) delete process.env[key];
      }
    }
  });

  test("names stand in order, and who has none is unknown", () => {
    const variables = { LISTEN_PID: `${process.pid}`, LISTEN_FDS: "3", LISTEN_FDNAMES: "a::" };
    Object.assign(process.env, variables);
    expect(listenFds()).toEqual([
      { fd: 3, name: "a" }, { fd: 4, name: "unknown" }, { fd: 5, name: "unknown" },
    ]);
    expect(listenFds()).toEqual([]);
  });
});
