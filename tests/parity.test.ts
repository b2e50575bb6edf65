// The same scripts against Bun.listen and Bun.connect and against ours, with equal transcripts.
// Where they differ on purpose stands in parity_differences.test.ts; docs/bun-listen.md has both as
// a table.

import { describe, expect, test } from "bun:test";
import {
  APIS,
  play,
  show,
  Side,
  type Scenario,
  type Script,
  type Thing,
} from "./support/parity.ts";
import { socketPair } from "./support/raw_socket.ts";
import { turns, until } from "./support/until.ts";

const SAME: Scenario[] = [
  {
    name: "a message, and an end by the peer",
    async run({ atClient, atServer, server, client }) {
      client.note("write", () => atClient["write"]?.("hello"));
      await server.saw("data");
      server.note("write", () => atServer["write"]?.("hi"));
      await client.saw("data");
      atServer["close"]?.();
      await client.saw("close");
      await server.saw("close");
      server.log.sort(); // inside the call or behind it
    },
  },
  {
    name: "what write takes and returns",
    async run({ atClient, client, server }) {
      const bytes = Buffer.from("abcdef");
      client.note("text", () => atClient["write"]?.("héllo"));
      client.note("nothing", () => atClient["write"]?.(""));
      client.note("bytes", () => atClient["write"]?.(new Uint8Array(bytes)));
      client.note("range", () => atClient["write"]?.(bytes, 1, 3));
      client.note("range of a text", () => atClient["write"]?.("héllo", 1, 3));
      client.note("buffer", () => atClient["write"]?.(new ArrayBuffer(4)));
      client.note("view", () => atClient["write"]?.(new DataView(new ArrayBuffer(5), 1)));
      client.note("bytesWritten", () => atClient["bytesWritten"]);
      await server.saw("data");
      await turns(20);
      server.log.length = 1; // how it is cut into chunks is nobody's promise
    },
  },
  {
    name: "what the other methods return",
    run({ atClient, listener, client }) {
      for (const name of ["ref", "unref", "ref", "pause", "resume", "flush"]) {
        client.note(name, () => atClient[name]?.());
      }
      client.note("timeout", () => atClient["timeout"]?.(0));
      client.note("setNoDelay", () => atClient["setNoDelay"]?.(false));
      client.note("setKeepAlive", () => atClient["setKeepAlive"]?.(true, 1000));
      client.note("setTypeOfService", () => atClient["setTypeOfService"]?.(8));
      client.note("getTypeOfService", () => atClient["getTypeOfService"]?.());
      client.note("reload", () => atClient["reload"]?.({ socket: { data() {} } }));
      for (const name of ["ref", "unref", "ref"]) client.note(name, () => listener[name]?.());
      client.note("reload", () => listener["reload"]?.({ socket: { data() {} } }));
      client.note("stop", () => listener["stop"]?.());
    },
  },
  {
    name: "what the properties are while it is open",
    run({ atClient, atServer, listener, client }) {
      const place = ["remoteAddress", "remoteFamily", "localAddress", "localFamily", "readyState"];
      for (const name of place) client.note(name, () => atClient[name]);
      for (const name of place) client.note(name, () => atServer[name]);
      client.note("remotePort", () => (atClient["remotePort"] as unknown) === listener["port"]);
      client.note("localPort", () => (atServer["remotePort"] as unknown) === atClient["localPort"]);
      client.note("listener", () => atClient["listener"]);
      client.note("its listener", () => (atServer["listener"] as unknown) === listener);
      client.note("fd", () => typeof atClient["fd"]);
      client.note("data", () => atClient["data"]);
      client.note("bytesWritten", () => atClient["bytesWritten"]);
      client.note("name", () => Object.prototype.toString.call(atClient));
      client.note("hostname", () => listener["hostname"]);
      client.note("unix", () => listener["unix"]);
      const bound: Record<string, unknown> = {};
      client.note("getsockname", () => listener["getsockname"]?.(bound));
      client.note("family", () => bound["family"]);
      client.note("address", () => bound["address"]);
      client.note("port", () => bound["port"] === (listener["port"] as unknown));
    },
  },
  {
    name: "what TLS would have to say",
    run({ atClient, client }) {
      client.note("authorized", () => atClient["authorized"]);
      client.note("alpnProtocol", () => atClient["alpnProtocol"]);
      for (const name of [
        "getAuthorizationError", "getCertificate", "getCipher", "getEphemeralKeyInfo",
        "getPeerCertificate", "getServername", "getSession", "getSharedSigalgs",
        "getTLSFinishedMessage", "getTLSPeerFinishedMessage", "getTLSTicket", "getTLSVersion",
        "isSessionReused", "disableRenegotiation",
      ]) {
        client.note(name, () => atClient[name]?.());
      }
      client.note("setMaxSendFragment", () => atClient["setMaxSendFragment"]?.(512));
    },
  },
  {
    name: "shutdown ends the writing side; bytes go on arriving",
    options: { allowHalfOpen: true },
    async run({ atClient, atServer, server, client }) {
      client.note("shutdown", () => atClient["shutdown"]?.());
      client.note("write", () => atClient["write"]?.("late"));
      await server.saw("end");
      server.note("write", () => atServer["write"]?.("answer"));
      await client.saw("data"); // what is told of the end then differs
    },
  },
  {
    name: "shutdown(true) ends the reading side; bytes go on leaving",
    options: { allowHalfOpen: true },
    async run({ atClient, server, client }) {
      client.note("shutdown", () => atClient["shutdown"]?.(true));
      await client.saw("end");
      client.note("write", () => atClient["write"]?.("still"));
      await server.saw("data");
    },
  },
  {
    name: "terminate resets",
    async run({ atClient, server, client }) {
      client.note("terminate", () => atClient["terminate"]?.());
      await server.saw("close");
      await client.saw("close");
      client.log.sort(); // inside the call or behind it
    },
  },
  {
    name: "pause holds bytes back, resume lets them come",
    async run({ atServer, atClient, server }) {
      atServer["pause"]?.();
      await turns(5);
      atClient["write"]?.("held");
      await turns(30);
      server.log.push("resumed");
      atServer["resume"]?.();
      await server.saw("data");
    },
  },
  {
    name: "a data handler that throws is told to error, and the connection stays",
    options: {
      server: {
        data() {
          throw new Error("boom");
        },
      },
    },
    async run({ atClient, server, client }) {
      atClient["write"]?.("x");
      await server.saw("error");
      await turns(20);
      client.note("readyState", () => atClient["readyState"]);
      client.note("write", () => atClient["write"]?.("y"));
      await until(() => server.log.length === 3);
    },
  },
  {
    name: "each connection starts with the listener's data, by reference",
    options: { listen: { data: { name: "shared" } }, connect: { data: "own" } },
    run({ atServer, atClient, listener, client }) {
      client.note("server", () => JSON.stringify(atServer["data"]));
      client.note("same", () => (atServer["data"] as unknown) === listener["data"]);
      client.note("client", () => atClient["data"]);
    },
  },
  {
    name: "reload reaches open connections; an accepted one's is its listener's",
    async run({ atServer, atClient, listener, server, client }) {
      const heard = (side: Side, name: string) => ({
        socket: { data: () => void side.log.push(`${name} data`) },
      });
      listener["reload"]?.(heard(server, "second"));
      atClient["write"]?.("x");
      await server.saw("second data");
      atServer["reload"]?.(heard(server, "third"));
      atClient["write"]?.("x");
      await server.saw("third data");
      atClient["reload"]?.(heard(client, "client"));
      atServer["write"]?.("x");
      await client.saw("client data");
      listener["stop"]?.(true);
      await turns(30);
      client.log.push("no close, no end: the new handlers have none");
    },
  },
  {
    name: "stop refuses newcomers and leaves the others; stop(true) closes them with FIN",
    async run({ atServer, atClient, listener, server, client, api }) {
      const { port } = listener as unknown as { port: number };
      listener["stop"]?.();
      const refused = api.connect({ hostname: "127.0.0.1", port, socket: { data() {} } });
      client.log.push(show(await refused.catch((error: Error) => error)));
      atClient["write"]?.("still");
      await server.saw("data");
      server.note("readyState", () => atServer["readyState"]);
      listener["stop"]?.(true);
      await client.saw("close");
      await server.saw("close");
      server.note("port", () => (listener["port"] as unknown) === port);
      server.note("hostname", () => listener["hostname"]);
      server.note("fd", () => listener["fd"]);
      server.note("listener", () => atServer["listener"]);
    },
  },
  {
    name: "an address that was asked for stays known behind the close",
    async run({ atClient, client, server }) {
      client.note("before", () => atClient["remoteAddress"]);
      atClient["terminate"]?.();
      await client.saw("close");
      await server.saw("close");
      client.note("after", () => atClient["remoteAddress"]);
    },
  },
  {
    name: "what a closed socket answers",
    async run({ atClient, listener, client, server }) {
      atClient["terminate"]?.();
      await client.saw("close");
      await server.saw("close");
      client.log.length = 0;
      client.note("readyState", () => atClient["readyState"]);
      client.note("write", () => atClient["write"]?.("x"));
      client.note("end", () => atClient["end"]?.("x"));
      client.note("fd", () => atClient["fd"]);
      for (const name of ["close", "shutdown", "terminate", "ref", "unref", "flush", "pause"]) {
        client.note(name, () => atClient[name]?.());
      }
      client.note("resume", () => atClient["resume"]?.());
      client.note("timeout", () => atClient["timeout"]?.(1));
      client.note("setNoDelay", () => atClient["setNoDelay"]?.());
      client.note("setKeepAlive", () => atClient["setKeepAlive"]?.(true));
      client.note("listener", () => atClient["listener"]);
      client.note("localPort", () => atClient["localPort"]);
      listener["stop"]?.();
    },
  },
  ...["buffer", "uint8array", "arraybuffer"].map((binaryType): Scenario => ({
    name: `binaryType ${binaryType}`,
    options: { server: { binaryType } },
    async run({ atClient, server }) {
      atClient["write"]?.("bytes");
      await server.saw("data");
    },
  })),
  {
    name: "a Unix socket has a path and no names",
    options: (() => {
      const unix = `\0parity-${crypto.randomUUID()}`;
      const place = { unix, hostname: undefined, port: undefined };
      return { listen: place, connect: place };
    })(),
    async run({ atClient, atServer, listener, client, server }) {
      for (const one of [atClient, atServer]) {
        for (const name of ["Address", "Port", "Family"]) {
          client.note(`remote${name}`, () => one[`remote${name}`]);
          client.note(`local${name}`, () => one[`local${name}`]);
        }
      }
      for (const name of ["port", "hostname"]) client.note(name, () => listener[name]);
      client.note("unix", () => String(listener["unix"]).slice(0, 8));
      client.note("setNoDelay", () => typeof atClient["setNoDelay"]?.(true));
      const bound = {};
      client.note("getsockname", () => listener["getsockname"]?.(bound));
      client.note("bound", () => JSON.stringify(bound));
      atClient["write"]?.("bytes");
      await server.saw("data");
    },
  },
  {
    name: "an IPv4 client of an IPv6 listener is called by its mapped address",
    options: { listen: { hostname: "::" } },
    run({ atServer, server }) {
      for (const name of ["remoteAddress", "remoteFamily", "localAddress", "localFamily"]) {
        server.note(name, () => atServer[name]);
      }
    },
  },
];

/** Scripts of one end alone. */
const ALONE: Script[] = [
  {
    name: "nobody listens there: connectError, then the rejection",
    async run(api, side) {
      const free = api.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
      const { port } = free as unknown as { port: number };
      free["stop"]?.(true);
      await turns(5);
      const refused = api.connect({
        hostname: "127.0.0.1",
        port,
        data: "mine",
        socket: side.handlers({
          connectError: (socket: Thing, error: { errno: number }) => {
            side.log.push(`connectError ${show(error)} ${error.errno}`);
            side.note("data", () => socket["data"]);
            side.note("readyState", () => socket["readyState"]);
          },
        }),
      });
      side.log.push(show(await refused.catch((error: Error) => error)));
      await turns(10);
    },
  },
  {
    name: "no such path, no such name",
    async run(api, side) {
      for (const place of [
        { unix: "/no/such/folder/socket" },
        { hostname: "no.such.name.invalid", port: 80 },
      ]) {
        const refused = api.connect({ ...place, socket: side.handlers() });
        side.log.push(show(await refused.catch((error: Error) => error)));
      }
    },
  },
  {
    name: "a taken port, a taken path, an address that is not ours",
    run(api, side) {
      const socket = { data() {} };
      const taken = api.listen({ hostname: "127.0.0.1", port: 0, socket });
      const unix = `\0parity-${crypto.randomUUID()}`;
      const path = api.listen({ unix, socket });
      side.note("port", () =>
        api.listen({ hostname: "127.0.0.1", port: taken["port"], socket }));
      side.note("path", () => api.listen({ unix, socket }));
      side.note("address", () => api.listen({ hostname: "203.0.113.1", port: 0, socket }));
      taken["stop"]?.();
      path["stop"]?.();
    },
  },
  {
    name: "reusePort, exclusive and ipv6Only",
    async run(api, side) {
      const socket = { data() {} };
      const first = api.listen({ hostname: "127.0.0.1", port: 0, reusePort: true, socket });
      const place = { hostname: "127.0.0.1", port: first["port"], socket };
      for (const options of [
        { reusePort: true }, {}, { exclusive: true }, { exclusive: true, reusePort: true },
      ]) {
        side.note(JSON.stringify(options), () => {
          const second = api.listen({ ...place, ...options });
          second["stop"]?.();
          return "listens";
        });
      }
      const six = api.listen({ hostname: "::", port: 0, ipv6Only: true, socket });
      const four = { hostname: "127.0.0.1", port: six["port"], socket };
      side.log.push(show(await api.connect(four).catch((error: Error) => error)));
      for (const one of [first, six]) one["stop"]?.();
    },
  },
  {
    name: "a connected descriptor",
    async run(api, side) {
      const [one, two] = socketPair();
      const other = new Side();
      const first = await api.connect({ fd: one, data: 7, socket: side.handlers() });
      const second = await api.connect({ fd: two, socket: other.handlers() });
      side.note("data", () => first["data"]);
      side.note("fd", () => (first["fd"] as unknown) === one);
      for (const name of ["localAddress", "remoteAddress", "remotePort", "remoteFamily"]) {
        side.note(name, () => first[name]);
      }
      second["write"]?.("over");
      await side.saw("data");
      second["close"]?.();
      await side.saw("close");
      await other.saw("close");
    },
  },
];

describe("the same over one connection", () => {
  test.each(SAME)("$name", async (scenario) => {
    const bun = await play(APIS.bun, scenario);
    const ours = await play(APIS.ours, scenario);
    expect(ours).toEqual(bun);
    expect(bun.client.length + bun.server.length).toBeGreaterThan(2);
  });
});

describe("the same", () => {
  test.each(ALONE)("$name", async ({ run }) => {
    const [bun, ours] = [new Side(), new Side()];
    await run(APIS.bun, bun);
    await run(APIS.ours, ours);
    expect(ours.log).toEqual(bun.log);
    expect(bun.log.length).toBeGreaterThan(1);
  });
});
