// The options, handlers and addresses of datagram sockets: Bun's names, checked and made numeric.
//
// A name is resolved once, when the socket is opened; `send` takes numeric addresses, as Bun's
// does, or the path of a Unix socket. Zones of IPv6 addresses may be names of interfaces here, the
// library takes their numbers.

import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { DATAGRAM_SIZE_MAX, DatagramOpenFlag } from "./abi.ts";
import { resolve } from "./address.ts";
import { argumentError, checkBoolean, checkInteger, UringError } from "./errors.ts";
import type { DatagramSocket } from "./datagram.ts";
import type { NumericAddress } from "./memory.ts";
import type { Ring } from "./ring.ts";

/** What `data` is given: a private copy, as one of these. */
export interface DatagramTypes {
  buffer: Buffer;
  uint8array: Uint8Array<ArrayBuffer>;
  arraybuffer: ArrayBuffer;
}
export type DatagramType = keyof DatagramTypes;

/** What else there is to say of a datagram. */
export interface ReceiveFlags {
  /** It was larger than what there was room for, and its end is lost: Unix sockets, 64 KiB. */
  truncated: boolean;
  /** The sender's address is an IPv6 one. */
  ipv6: boolean;
}

type Handled = void | Promise<void>;

/** Handlers with the names of Bun's. */
export interface DatagramHandler<Type extends DatagramType = "buffer"> {
  /** `port` and `address` are the sender's: 0 and the path, "" if it has none, on Unix sockets. */
  data?(
    socket: DatagramSocket<Type>,
    data: DatagramTypes[Type],
    port: number,
    address: string,
    flags: ReceiveFlags,
  ): Handled;
  /** There is room again after a `send` that was not taken. */
  drain?(socket: DatagramSocket<Type>): Handled;
  /**
   * What a handler threw, and what the network answered to an earlier datagram ("ECONNREFUSED").
   * The socket goes on. Without it the network's answers are ignored, as UDP may lose anything, and
   * what a handler threw goes to the process.
   */
  error?(socket: DatagramSocket<Type>, error: Error): Handled;
}

export interface DatagramOptions<Type extends DatagramType = "buffer"> {
  /** The address or name to bind. Default "0.0.0.0", or "::" if `connect` says so. */
  hostname?: string;
  /** The port to bind. Default 0: any that is free. */
  port?: number;
  /** The path to bind a Unix socket to, removed by `close`; a leading NUL makes it abstract. */
  unix?: string;
  /** Sends to and receives from this peer only. */
  connect?: { hostname: string; port: number } | { unix: string };
  socket?: DatagramHandler<Type>;
  binaryType?: Type;
  /** Several sockets may bind the port, the kernel spreads senders: SO_REUSEPORT. */
  reusePort?: boolean;
  /** The port may be bound by several sockets that all receive multicasts: SO_REUSEADDR. */
  reuseAddr?: boolean;
  /** An IPv6 socket has nothing to do with IPv4: IPV6_V6ONLY. */
  ipv6Only?: boolean;
  /** Bytes that the kernel keeps until they are received, sent: SO_RCVBUF, SO_SNDBUF. */
  receiveBufferSize?: number;
  sendBufferSize?: number;
  /** The ring to use. Default: this thread's. */
  ring?: Ring;
}

/** Handlers after checking, the same shape for every socket. */
export interface DatagramHandlers {
  data: ((...all: [unknown, unknown, number, string, ReceiveFlags]) => Handled) | undefined;
  drain: ((socket: unknown) => Handled) | undefined;
  error: ((socket: unknown, error: Error) => Handled) | undefined;
}

const HANDLER_NAMES = ["data", "drain", "error"] as const;
const TYPES: readonly string[] = ["buffer", "uint8array", "arraybuffer"];
const UNIX_PATH_MAX = 107;
const BUFFER_SIZE_MAX = 1 << 30;

export function readDatagramHandlers(operation: string, socket: unknown): DatagramHandlers {
  if (typeof socket !== "object" || socket === null) {
    throw argumentError(operation, "socket", "an object with handlers", socket);
  }
  const given = socket as Record<string, unknown>;
  const bound = HANDLER_NAMES.map((name) => {
    const handler = given[name];
    if (handler !== undefined && typeof handler !== "function") {
      throw argumentError(operation, `socket.${name}`, "a function", handler);
    }
    return [name, handler?.bind(socket)];
  });
  return Object.fromEntries(bound) as DatagramHandlers;
}

export function readType(value: unknown): DatagramType {
  if (typeof value !== "string" || !TYPES.includes(value)) {
    throw argumentError("udpSocket", "binaryType", `one of ${TYPES.join(", ")}`, value);
  }
  return value as DatagramType;
}

export function readFlags(options: DatagramOptions<DatagramType>): number {
  const bits = [
    ["reusePort", DatagramOpenFlag.reuse_port],
    ["reuseAddr", DatagramOpenFlag.reuse_address],
    ["ipv6Only", DatagramOpenFlag.ipv6_only],
  ] as const;
  return bits.reduce((flags, [name, bit]) => {
    const set = checkBoolean("udpSocket", name, options[name] ?? false);
    return set ? flags | (1 << bit) : flags;
  }, 0);
}

export function readBufferSize(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  return checkInteger("udpSocket", name, value, 1, BUFFER_SIZE_MAX);
}

// Places ---------------------------------------------------------------------------------------

/** Where to bind or connect, before names are resolved. */
export interface DatagramPlace {
  readonly hostname: string;
  readonly port: number;
  readonly unix: string | null;
}

/** Null: nothing was said, so that the kernel or the peer decides. */
export function readLocal(options: DatagramOptions<DatagramType>): DatagramPlace | null {
  const { hostname, unix } = options;
  if (unix !== undefined) return { hostname: "", port: 0, unix: checkPath("unix", unix) };
  const port = checkInteger("udpSocket", "port", options.port ?? 0, 0, 65535);
  if (hostname === undefined) return port === 0 ? null : { hostname: "", port, unix: null };
  return { hostname: checkHost("hostname", hostname), port, unix: null };
}

export function readRemote(options: DatagramOptions<DatagramType>): DatagramPlace | null {
  const { connect } = options;
  if (connect === undefined) return null;
  if (typeof connect !== "object" || connect === null) {
    throw argumentError("udpSocket", "connect", "an object with hostname and port", connect);
  }
  const { unix, hostname, port } = connect as Record<string, unknown>;
  if (unix !== undefined) return { hostname: "", port: 0, unix: checkPath("connect.unix", unix) };
  const host = checkHost("connect.hostname", hostname);
  const number = checkInteger("udpSocket", "connect.port", port, 1, 65535);
  return { hostname: host, port: number, unix: null };
}

function checkPath(name: string, path: unknown): string {
  const length = typeof path === "string" ? Buffer.byteLength(path) : 0;
  if (length === 0 || length > UNIX_PATH_MAX) {
    throw argumentError("udpSocket", name, `a path of 1 to ${UNIX_PATH_MAX} bytes`, path);
  }
  return path as string;
}

function checkHost(name: string, host: unknown): string {
  if (typeof host !== "string" || host === "" || host.length > 253) {
    throw argumentError("udpSocket", name, "an address or a name", host);
  }
  return host;
}

/** For messages: "127.0.0.1:80". */
export function textOf(place: DatagramPlace): string {
  if (place.unix !== null) return place.unix.replace(/^\0/, "@");
  const host = isIP(place.hostname) === 6 ? `[${place.hostname}]` : place.hostname;
  return `${host}:${place.port}`;
}

/** Every address of the place: a path, the one that is numeric, or what the name resolves to. */
export async function resolvePlace(place: DatagramPlace): Promise<NumericAddress[]> {
  if (place.unix !== null) return [{ family: "unix", host: place.unix, port: 0 }];
  const numeric = numericHost(place.hostname, place.port);
  if (numeric !== null) return [numeric];
  return resolve({ ...place, fd: null, operation: "udpSocket", text: textOf(place) });
}

export function numericHost(host: string, port: number): NumericAddress | null {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  const version = isIP(bare);
  if (version === 0) return null;
  if (version === 4) return { family: "ipv4", host: bare, port };
  return { family: "ipv6", host: numberedZone(bare), port };
}

/** "fe80::1%eth0" with the interface's number, which is all that the library knows. */
function numberedZone(host: string): string {
  const [address, zone] = host.split("%");
  if (zone === undefined || /^\d+$/.test(zone)) return host;
  return `${address}%${interfaceNumber(zone)}`;
}

function interfaceNumber(name: string): number {
  try {
    // if_nametoindex(3), as the kernel tells it in sysfs.
    return Number(readFileSync(`/sys/class/net/${encodeURIComponent(name)}/ifindex`, "utf8"));
  } catch (cause) {
    const message = `udpSocket: there is no network interface named ${JSON.stringify(name)}`;
    const error = new UringError("ENODEV", "udpSocket", message);
    error.cause = cause;
    throw error;
  }
}

/** What `send` takes at most; the library knows the limit of each family. */
export const sizeSentence = `UDP carries 65507 bytes, 65527 over IPv6; a Unix socket ` +
  `${DATAGRAM_SIZE_MAX}`;
