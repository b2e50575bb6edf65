// Where to listen or connect: options to a numeric address, host names through Bun's own resolver.
//
// The library takes numbers only. `listen` is synchronous, as Bun's is, while Bun's resolver is
// not: a name is resolved by a short-lived Bun of its own, once, when the server starts.

import { isIP } from "node:net";
import { argumentError, checkInteger, UringError } from "./errors.ts";
import type { NumericAddress } from "./memory.ts";

/** One of: a port, with or without a host name; the path of a Unix socket; a descriptor. */
export interface PlaceOptions {
  /** An address or a name. Default for `listen`: "0.0.0.0", for `connect`: "localhost". */
  hostname?: string;
  /** 0 for any free port, `listen` only. */
  port?: number;
  /** Path of a Unix socket; a leading NUL makes it abstract, see unix(7). */
  unix?: string;
  /**
   * A stream socket that is there already: listening or bound for `listen`, connected for
   * `connect`. It is the library's from then on: made blocking, and closed at the end.
   */
  fd?: number;
  /** TLS is not supported: put it in front, or use Bun's own sockets. */
  tls?: false;
}

export interface Place {
  operation: "listen" | "connect" | "udpSocket";
  hostname: string;
  port: number;
  unix: string | null;
  fd: number | null;
  /** For messages: "127.0.0.1:80". */
  text: string;
}

/** sun_path of unix(7) has 108 bytes, one of them for the NUL of a path. */
const UNIX_PATH_MAX = 107;

/** `withoutTls` makes the error of a place that asks for TLS. */
export function readPlace(
  operation: "listen" | "connect",
  options: object,
  withoutTls: (operation: string) => UringError,
): Place {
  const { unix, fd, port, tls, hostname: given } = options as Record<string, unknown>;
  if (tls !== undefined && tls !== false) throw withoutTls(operation);
  const nowhere = { operation, hostname: "", port: 0, unix: null, fd: null };
  if (fd !== undefined) {
    const checked = checkInteger(operation, "fd", fd, 0, 0x7fff_ffff);
    return { ...nowhere, fd: checked, text: `descriptor ${checked}` };
  }
  if (unix !== undefined) {
    const length = typeof unix === "string" ? Buffer.byteLength(unix) : 0;
    if (typeof unix !== "string" || length === 0 || length > UNIX_PATH_MAX) {
      throw argumentError(operation, "unix", `a path of 1 to ${UNIX_PATH_MAX} bytes`, unix);
    }
    return { ...nowhere, unix, text: unix.startsWith("\0") ? `@${unix.slice(1)}` : unix };
  }
  const hostname = given ?? (operation === "listen" ? "0.0.0.0" : "localhost");
  if (typeof hostname !== "string" || hostname === "" || hostname.length > 253) {
    throw argumentError(operation, "hostname", "an address or a name", hostname);
  }
  const number = checkInteger(operation, "port", port, operation === "listen" ? 0 : 1, 65535);
  const host = isIP(hostname) === 6 ? `[${hostname}]` : hostname;
  return { ...nowhere, hostname, port: number, text: `${host}:${number}` };
}

/** Where to connect from, or null if that does not matter. */
export function readLocal(options: object): NumericAddress | null {
  const { localAddress, localPort } = options as Record<string, unknown>;
  if (localAddress === undefined && localPort === undefined) return null;
  const port = checkInteger("connect", "localPort", localPort ?? 0, 0, 65535);
  const host = localAddress ?? "0.0.0.0";
  const local = typeof host === "string" ? literal(host, port) : null;
  if (local === null) throw argumentError("connect", "localAddress", "an address", host);
  return local;
}

/** The address if no name is to be resolved, else null. */
export function numericAddress(place: Place): NumericAddress | null {
  if (place.unix !== null) return { family: "unix", host: place.unix, port: 0 };
  const bare = place.hostname.replace(/^\[(.*)\]$/, "$1");
  return literal(bare, place.port);
}

function literal(host: string, port: number): NumericAddress | null {
  const version = isIP(host);
  if (version === 0) return null;
  return { family: version === 6 ? "ipv6" : "ipv4", host, port };
}

/** Every address of the name, in the resolver's order. */
export async function resolve(place: Place): Promise<NumericAddress[]> {
  const known = numericAddress(place);
  if (known !== null) return [known];
  let found: { address: string }[];
  try {
    found = await Bun.dns.lookup(place.hostname);
  } catch (cause) {
    throw unresolved(place, cause);
  }
  const addresses = found
    .map(({ address }) => literal(address, place.port))
    .filter((address) => address !== null);
  if (addresses.length === 0) throw unresolved(place, undefined);
  return addresses;
}

/** The address to bind, at once. */
export function bindAddress(place: Place): NumericAddress {
  const known = numericAddress(place);
  if (known !== null) return known;
  // RFC 6761: always the loopback address. Bun.listen binds the IPv4 one too.
  if (place.hostname === "localhost") {
    return { family: "ipv4", host: "127.0.0.1", port: place.port };
  }
  const program =
    "const [first] = await Bun.dns.lookup(process.argv[1]);" +
    "process.stdout.write(first.address, () => process.exit());"; // its resolver would linger
  const child = Bun.spawnSync([process.execPath, "-e", program, place.hostname], {
    env: { ...process.env, BUN_BE_BUN: "1" }, // a compiled program is its own Bun
    stderr: "ignore",
  });
  const address = literal(child.stdout.toString(), place.port);
  if (address === null) throw unresolved(place, undefined);
  return address;
}

function unresolved(place: Place, cause: unknown): UringError {
  const message = `${place.operation} ${place.text}: the name cannot be resolved`;
  const error = new UringError("ENOTFOUND", place.operation, message);
  error.cause = cause;
  return error;
}
