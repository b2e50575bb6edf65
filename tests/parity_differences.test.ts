// Where ours differs from Bun's on purpose: what each does, written down, and why. A new version of
// Bun that behaves otherwise fails here, and may make a difference unnecessary.

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
import { freshSocket } from "./support/raw_socket.ts";
import { turns, until } from "./support/until.ts";

interface Difference extends Scenario {
  why: string;
  bun: { server: string[]; client: string[] };
  ours: { server: string[]; client: string[] };
}

/** The events of a client that calls `name` on a socket, and what the peer hears. */
const ending = (name: string, why: string, peer: string[]): Difference => ({
  name: `${name} returns before close is called`,
  why,
  async run({ atClient, client, server }) {
    atClient[name]?.();
    client.log.push("returned");
    await client.saw("close");
    await server.saw("close");
  },
  bun: { client: ["open", "close undefined", "returned"], server: ["open", ...peer] },
  ours: { client: ["open", "returned", "close undefined"], server: ["open", ...peer] },
});

const NOT_NESTED = "No handler runs inside a call: what closes sockets in a loop over them isn't " +
  "surprised in the middle of it.";
const FIN = ["end", "close undefined"];

const OVER_A_CONNECTION: Difference[] = [
  ending("close", NOT_NESTED, FIN),
  ending("terminate", NOT_NESTED, ["close Error ECONNRESET"]),
  {
    name: "end waits for the peer's end",
    why: "As Bun's own documentation says, and as Node does: after `end` the answer still comes. " +
      "Bun closes at once, and the peer's answer is lost.",
    options: { allowHalfOpen: true },
    async run({ atClient, atServer, client, server }) {
      client.note("end", () => atClient["end"]?.("question"));
      client.note("readyState", () => atClient["readyState"]);
      await server.saw("end");
      server.note("write", () => atServer["write"]?.("answer"));
      server.note("end", () => atServer["end"]?.());
      await server.saw("close");
      await client.saw("close");
    },
    bun: {
      client: ["open", "close undefined", "end = 8", "readyState = -1"],
      server: [
        "open", "data Buffer question", "end", "write = 6", "close undefined", "end = 0",
      ],
    },
    ours: {
      client: [
        "open", "end = 8", "readyState = -2", "data Buffer answer", "end", "close undefined",
      ],
      server: [
        "open", "data Buffer question", "end", "write = 6", "end = 0", "close undefined",
      ],
    },
  },
  {
    name: "end is told whichever side ended first",
    why: "The documentation: called when the other end shuts down its side. As Node does.",
    async run({ atClient, client, server }) {
      atClient["shutdown"]?.();
      await server.saw("close");
      await client.saw("close");
    },
    bun: { client: ["open", "close undefined"], server: ["open", "end", "close undefined"] },
    ours: {
      client: ["open", "end", "close undefined"],
      server: ["open", "end", "close undefined"],
    },
  },
  {
    name: "end takes all of its data",
    why: "A last piece that does not fit would be lost without a word.",
    async run({ atClient, atServer, client, server }) {
      atServer["pause"]?.();
      await turns(5);
      const size = 32 << 20;
      client.note("all", () => (atClient["end"]?.(new Uint8Array(size)) as unknown) === size);
      atClient["terminate"]?.();
      await client.saw("close");
      server.log.length = 0;
    },
    bun: { client: ["open", "all = false", "close undefined"], server: [] },
    ours: { client: ["open", "all = true", "close undefined"], server: [] },
  },
  {
    name: "drain comes after a write that took less, and only then",
    why: "The documentation's meaning; Bun calls it whenever the socket is writable.",
    options: {},
    async run({ atClient, client, server, listener }) {
      const drains: string[] = [];
      listener["reload"]?.({ socket: { data: () => server.log.push("data") } });
      atClient["reload"]?.({ socket: { data() {}, drain: () => drains.push("drain") } });
      atClient["write"]?.("x");
      await server.saw("data");
      atClient["pause"]?.();
      atClient["resume"]?.();
      await turns(20);
      client.note("drains", () => drains.length > 0);
    },
    bun: { client: ["open", "drains = true"], server: ["open", "data"] },
    ours: { client: ["open", "drains = false"], server: ["open", "data"] },
  },
  {
    name: "write takes the rest behind an offset",
    why: "The documentation: byteLength defaults to the remaining length.",
    async run({ atClient, client, server }) {
      client.note("write", () => atClient["write"]?.(Buffer.from("abcdef"), 4));
      atClient["write"]?.("!");
      await until(() => server.log.join().endsWith("!"));
    },
    bun: {
      client: ["open", "write threw Error ERR_OUT_OF_RANGE"],
      server: ["open", "data Buffer !"],
    },
    ours: { client: ["open", "write = 2"], server: ["open", "data Buffer ef!"] },
  },
  {
    name: "write of undefined is a mistake",
    why: "It is one, and every other wrong value is refused by both.",
    run({ atClient, client }) {
      client.note("undefined", () => atClient["write"]?.(undefined));
      client.note("a number", () => atClient["write"]?.(7));
    },
    bun: {
      client: ["open", "undefined = 0", "a number threw Error ERR_INVALID_ARG_TYPE"],
      server: ["open"],
    },
    ours: {
      client: ["open", "undefined threw Error EINVAL", "a number threw Error EINVAL"],
      server: ["open"],
    },
  },
  {
    name: "an open handler that throws does not close the connection",
    why: "A handler that throws stops nothing else, whichever it is: `error` may close it.",
    options: {
      client: {
        open() {
          throw new Error("boom");
        },
      },
    },
    async run({ atClient, client }) {
      await client.saw("error");
      await turns(10);
      client.note("readyState", () => atClient["readyState"]);
    },
    bun: {
      client: ["error Error boom", "close undefined", "readyState = -1"],
      server: ["open", "end", "close undefined"],
    },
    ours: { client: ["error Error boom", "readyState = 1"], server: ["open"] },
  },
  {
    name: "handlers are called with their object as this",
    why: "An instance of a class serves as handlers.",
    options: {
      server: {
        name: "mine",
        data(this: { name?: string }, socket: unknown) {
          (socket as { data: string[] }).data.push(`data ${this?.name}`);
        },
      },
      listen: { data: [] },
    },
    async run({ atClient, atServer, server }) {
      atClient["write"]?.("x");
      await until(() => (atServer["data"] as unknown as string[]).length > 0);
      server.log.push(...(atServer["data"] as unknown as string[]).splice(0));
    },
    bun: { client: ["open"], server: ["open", "data undefined"] },
    ours: { client: ["open"], server: ["open", "data mine"] },
  },
  {
    name: "what would turn TLS on throws",
    why: "A program that asks for it must not go on in the clear.",
    run({ atClient, client }) {
      client.note("setServername", () => atClient["setServername"]?.("name"));
      client.note("setSession", () => atClient["setSession"]?.("session"));
      client.note("setVerifyMode", () => atClient["setVerifyMode"]?.(true, true));
      client.note("renegotiate", () => atClient["renegotiate"]?.());
      client.note("exportKeyingMaterial", () => atClient["exportKeyingMaterial"]?.(8, "label"));
    },
    bun: {
      client: [
        "open", "setServername = undefined", "setSession = undefined", "setVerifyMode = undefined",
        "renegotiate = undefined", "exportKeyingMaterial = undefined",
      ],
      server: ["open"],
    },
    ours: {
      client: [
        "open", "setServername threw Error EOPNOTSUPP", "setSession threw Error EOPNOTSUPP",
        "setVerifyMode threw Error EOPNOTSUPP", "renegotiate threw Error EOPNOTSUPP",
        "exportKeyingMaterial threw Error EOPNOTSUPP",
      ],
      server: ["open"],
    },
  },
  {
    name: "a time-out that nobody handles ends the connection, and strikes within the second",
    why: "The documentation: the socket is closed. Bun does nothing, and looks every four seconds.",
    async run({ atClient, client, server }) {
      const struck = Promise.withResolvers<void>();
      atClient["reload"]?.({
        socket: {
          data() {},
          close: (_socket: unknown, error: unknown) => {
            client.log.push(`close ${show(error)}`);
            struck.resolve();
          },
        },
      });
      atClient["timeout"]?.(1);
      const start = performance.now();
      await until(() => client.log.length > 1 || performance.now() - start > 5000);
      server.log.length = 0;
    },
    bun: { client: ["open"], server: [] },
    ours: { client: ["open", "close Error ETIMEDOUT"], server: [] },
  },
];

interface Alone extends Script {
  why: string;
  bun: string[];
  ours: string[];
}

const ALONE: Alone[] = [
  {
    name: "errors are numbered as Node numbers them",
    why: "`errno` is negative in Node; Bun's is positive for listen, and its own for names.",
    async run(api, side) {
      const socket = { data() {} };
      const taken = api.listen({ hostname: "127.0.0.1", port: 0, socket });
      const errnoOf = (error: unknown) => (error as { errno: number }).errno;
      try {
        api.listen({ hostname: "127.0.0.1", port: taken["port"], socket });
      } catch (error) {
        side.log.push(`listen ${errnoOf(error)}`);
      }
      const place = { hostname: "no.such.name.invalid", port: 9, socket };
      side.log.push(`name ${errnoOf(await api.connect(place).catch((error: Error) => error))}`);
      taken["stop"]?.();
    },
    bun: ["listen 98", "name 4"],
    ours: ["listen -98", "name -3008"],
  },
  {
    name: "wrong arguments have the kernel's name for them",
    why: "One code for what is wrong in the call, with what was expected and what came.",
    run(api, side) {
      const socket = { data() {} };
      side.note("nothing", () => api.listen(undefined as never));
      side.note("no handlers", () => api.listen({ hostname: "127.0.0.1", port: 0 }));
      side.note("port", () => api.listen({ hostname: "127.0.0.1", port: -1, socket }));
      side.note("handler", () => api.listen({ port: 0, hostname: "::", socket: { data: 7 } }));
    },
    bun: [
      "nothing threw Error ERR_INVALID_ARG_TYPE", "no handlers threw Error ERR_INVALID_ARG_TYPE",
      "port threw Error ERR_OUT_OF_RANGE", "handler threw Error ERR_INVALID_ARG_TYPE",
    ],
    ours: [
      "nothing threw Error EINVAL", "no handlers threw Error EINVAL", "port threw Error EINVAL",
      "handler threw Error EINVAL",
    ],
  },
  {
    name: "without a host name it listens on every IPv4 address",
    why: "Convenient, as in Node, and it was so from the start.",
    run(api, side) {
      side.note("listen", () => {
        const listener = api.listen({ port: 0, socket: { data() {} } });
        const hostname = listener["hostname"];
        listener["stop"]?.();
        return hostname;
      });
    },
    bun: ["listen threw Error ERR_INVALID_ARG_TYPE"],
    ours: ["listen = \"0.0.0.0\""],
  },
  {
    name: "ports are numbers",
    why: "\"80x\" and true are mistakes that should not be guessed at.",
    run(api, side) {
      side.note("listen", () => {
        const place = { hostname: "127.0.0.1", port: "0" };
        const listener = api.listen({ ...place, socket: { data() {} } });
        listener["stop"]?.();
        return "listens";
      });
    },
    bun: ["listen = \"listens\""],
    ours: ["listen threw Error EINVAL"],
  },
  {
    name: "handlers without data are enough: bytes wait for who reads them",
    why: "For `for await` and web streams; Bun wants data or drain, and drops bytes without data.",
    async run(api, side) {
      side.note("open alone", () => {
        const listener = api.listen({
          hostname: "127.0.0.1",
          port: 0,
          socket: { open() {} },
        });
        listener["stop"]?.();
        return "listens";
      });
      const listener = api.listen({
        hostname: "127.0.0.1",
        port: 0,
        socket: { data() {}, open: (socket: Thing) => void socket["end"]?.("x") },
      });
      const client = await api.connect({
        hostname: "127.0.0.1",
        port: listener["port"],
        socket: side.handlers({ data: undefined }),
      });
      await turns(50);
      const heard: string[] = [];
      const data = (_socket: unknown, chunk: unknown) => heard.push(show(chunk));
      client["reload"]?.({ socket: { data } });
      await turns(20);
      side.log.push(...heard);
      client["terminate"]?.();
      listener["stop"]?.(true);
      await turns(10);
    },
    bun: ["open alone threw Error ERR_INVALID_ARG_TYPE", "open", "end", "close undefined"],
    ours: ["open alone = \"listens\"", "open", "Buffer x"],
  },
  {
    name: "a wrong descriptor is called by what is wrong with it, a right one by its address",
    why: "Bun says ECONNREFUSED whatever it is, and does not look at the address.",
    async run(api, side) {
      const socket = { data() {} };
      const refused = api.connect({ fd: 9999, socket });
      side.log.push(show(await refused.catch((error: Error) => error)));
      side.note("listen", () => api.listen({ fd: 9999, socket }));
      const fd = freshSocket();
      const listener = api.listen({ fd, socket });
      side.note("port", () => Number(listener["port"]) > 0);
      side.note("hostname", () => listener["hostname"]);
      listener["stop"]?.();
      await turns(20);
    },
    bun: [
      "Error ECONNREFUSED", "listen threw Error EINVAL", "port = false", "hostname = undefined",
    ],
    ours: ["Error EBADF", "listen threw Error EBADF", "port = true", "hostname = \"0.0.0.0\""],
  },
  {
    name: "tls is refused",
    why: "There is none: put it in front, or use Bun's own for these connections.",
    run(api, side) {
      for (const tls of [false, true]) {
        side.note(`tls ${tls}`, () => {
          const place = { hostname: "127.0.0.1", port: 0, tls };
          const listener = api.listen({ ...place, socket: { data() {} } });
          listener["stop"]?.();
          return "listens";
        });
      }
    },
    bun: ["tls false = \"listens\"", "tls true = \"listens\""],
    ours: ["tls false = \"listens\"", "tls true threw Error EOPNOTSUPP"],
  },
];

describe("over a connection", () => {
  test.each(OVER_A_CONNECTION)("$name", async (difference) => {
    expect(await play(APIS.bun, difference)).toEqual(difference.bun);
    expect(await play(APIS.ours, difference)).toEqual(difference.ours);
    expect(difference.ours).not.toEqual(difference.bun);
    expect(difference.why.length).toBeGreaterThan(20);
  });
});

describe("alone", () => {
  test.each(ALONE)("$name", async (difference) => {
    const [bun, ours] = [new Side(), new Side()];
    await difference.run(APIS.bun, bun);
    await difference.run(APIS.ours, ours);
    expect(bun.log).toEqual(difference.bun);
    expect(ours.log).toEqual(difference.ours);
    expect(ours.log).not.toEqual(bun.log);
  });
});
