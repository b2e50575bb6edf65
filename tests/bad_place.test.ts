// Wrong options of `listen`, `connect` and a listener's methods: each is refused before anything
// crosses, and the listener that they were tried on goes on.

import { afterAll, beforeAll, test } from "bun:test";
import { connect, listen } from "../ts/index.ts";
import {
  but,
  connecting,
  describeCases,
  listening,
  NOT_BOOLEAN,
  NOT_FUNCTION,
  NOT_OBJECT,
  untyped,
  VALUES,
  type Case,
} from "./support/bad_values.ts";
import { pair, type Pair } from "./support/pair.ts";

const HANDLERS = [
  "open", "data", "drain", "end", "close", "error", "connectError", "timeout", "handshake",
];

const PLACES: Case[] = (["listen", "connect"] as const).flatMap((operation): Case[] => {
  const call = operation === "listen" ? listening : connecting;
  const bare: (options: never) => unknown = operation === "listen" ? listen : connect;
  const numbers = but(operation === "listen" ? "zero" : "");
  const cases: Case[] = [
    { what: `${operation}()`, call: (v) => bare(untyped(v)), wrong: NOT_OBJECT, names: "options" },
    { what: "socket", call: (socket) => call({ socket }), wrong: NOT_OBJECT, names: "socket" },
    { what: "port", call: (port) => call({ port }), wrong: numbers, names: "port" },
    {
      what: "hostname",
      call: (hostname) => call({ hostname }),
      wrong: but("null", "undefined", "a string"),
      names: "hostname",
    },
    {
      what: "unix",
      call: (unix) => call({ unix }),
      wrong: but("undefined", "a string"),
      names: "unix",
    },
    {
      what: "allowHalfOpen",
      call: (allowHalfOpen) => call({ allowHalfOpen }),
      wrong: NOT_BOOLEAN,
      names: "allowHalfOpen",
    },
    {
      what: "ring",
      call: (ring) => call({ ring }),
      wrong: but("null", "undefined"),
      names: "ring",
    },
    ...HANDLERS.map((name): Case => ({
      what: `socket.${name}`,
      call: (handler) => call({ socket: { data() {}, [name]: handler } }),
      wrong: NOT_FUNCTION,
      names: `socket.${name}`,
    })),
    {
      what: "socket.binaryType",
      call: (binaryType) => call({ socket: { data() {}, binaryType } }),
      wrong: but("null", "undefined"),
      names: "binaryType",
    },
  ];
  return cases.map((one) => ({ ...one, what: `${operation}: ${one.what}` }));
});

const ONLY_LISTEN: Case[] = [
  ...["reusePort", "ipv6Only", "exclusive"].map((name): Case => ({
    what: `listen: ${name}`,
    call: (value) => listening({ [name]: value }),
    wrong: NOT_BOOLEAN.filter((wrong) => wrong !== "null"),
    names: name,
  })),
  {
    what: "listen: backlog",
    call: (backlog) => listening({ backlog }),
    wrong: but("null", "undefined"),
    names: "backlog",
  },
  {
    what: "stop()",
    call: (value, { listener }) => listener.stop(untyped(value)),
    wrong: NOT_BOOLEAN,
    names: "closeActiveConnections",
  },
  {
    what: "reload()",
    call: (socket, { listener }) => listener.reload(untyped({ socket })),
    wrong: NOT_OBJECT,
    names: "socket",
  },
  {
    what: "reload() without options",
    call: (options, { listener }) => listener.reload(untyped(options)),
    wrong: Object.keys(VALUES),
    names: "socket",
  },
];

/** Options of whole numbers from 0, 0 being their default. */
const whole = (operation: string, call: (options: object) => unknown, name: string): Case => ({
  what: `${operation}: ${name}`,
  call: (value) => call({ [name]: value }),
  wrong: but("undefined", "zero", "2 ** 31"),
  names: name,
});

const MORE: Case[] = [
  whole("listen", listening, "closeTimeout"),
  whole("connect", connecting, "closeTimeout"),
  ...["timeout", "localPort"].map((name): Case => ({
    ...whole("connect", connecting, name),
    wrong: but("undefined", "null", "zero", "2 ** 31"),
  })),
  {
    what: "connect: localAddress",
    call: (localAddress) => connecting({ localAddress }),
    wrong: but("undefined", "null"),
    names: "localAddress",
  },
  {
    what: "connect: signal",
    call: (signal) => connecting({ signal }),
    wrong: but("undefined"),
    names: "signal",
  },
  ...["reusePort", "ipv6Only", "exclusive"].map((name): Case => ({
    what: `connect: ${name}`,
    call: (value) => connecting({ [name]: value }),
    wrong: NOT_BOOLEAN.filter((wrong) => wrong !== "null"),
    names: name,
  })),
  ...[listening, connecting].map((call, i): Case => ({
    what: `${["listen", "connect"][i]}: fd`,
    call: (fd) => call({ fd }),
    wrong: but("undefined", "zero"),
    names: "fd",
  })),
  {
    what: "getsockname()",
    call: (out, { listener }) => listener.getsockname(untyped(out)),
    wrong: NOT_OBJECT,
    names: "out",
  },
];

let both: Pair;
beforeAll(async () => {
  both = await pair();
});
afterAll(() => both[Symbol.dispose]());

describeCases([...PLACES, ...ONLY_LISTEN, ...MORE], () => both);

test("after all of them the listener still accepts", async () => {
  using other = await connect({ hostname: "127.0.0.1", port: both.listener.port, socket: {} });
  other.write("x");
  await both.atServer.received(1);
});
