// Where to listen or connect: options to a numeric address, host names through Bun's own resolver.
//
// The library takes numbers only. `listen` is synchronous, as Bun's is, while Bun's resolver is
// not: a name is resolved by a short-lived Bun of its own, once, when the server starts.

import { isIP } from "node:net";
import { argumentError, checkInteger, UringError } from "./errors.ts";
import type { NumericAddress } from "./memory.ts";

export interface PlaceOptions {
  /** An address or a name. Default for `listen`: "0.0.0.0". */
  hostname?: string;
  /** 0 for any free port, `listen` only. */
  port?: number;
  /** Path of a Unix socket; a leading NUL makes it abstract, see unix(7). */
  unix?: string;
  /** Not supported: put TLS in front, or use `Bun.listen`. */
  tls?: never;
}

export interface Place {
  operation: "listen" | "connect";
  hostname: string;
  port: number;
  unix: string | null;
  /** For messages: "127.0.0.1:80". */
  text: string;
}

/** sun_path of unix(7) has 108 bytes, one of them for the NUL of a path. */
const UNIX_PATH_MAX = 107;

export function readPlace(operation: "listen" | "connect", options: PlaceOptions): Place {
  const { unix, port } = options;
  if (options.tls !== undefined && (options.tls as unknown) !== false) {
    const advice = `put a TLS proxy in front, or use Bun.${operation}`;
    const message = `${operation}: tls is not supported; ${advice}`;
    throw new UringError("EOPNOTSUPP", operation, message);
  }
  if (unix !== undefined) {
    const length = typeof unix === "string" ? Buffer.byteLength(unix) : 0;
    if (length === 0 || length > UNIX_PATH_MAX) {
      throw argumentError(operation, "unix", `a path of 1 to ${UNIX_PATH_MAX} bytes`, unix);
    }
    const text = unix.startsWith("\0") ? `@${unix.slice(1)}` : unix;
    return { operation, hostname: "", port: 0, unix, text };
  }
  const hostname = options.hostname ?? (operation === "listen" ? "0.0.0.0" : "localhost");
  if (typeof hostname !== "string" || hostname === "" || hostname.length > 253) {
    throw argumentError(operation, "hostname", "an address or a name", hostname);
  }
  checkInteger(operation, "port", port, operation === "listen" ? 0 : 1, 65535);
  const host = isIP(hostname) === 6 ? `[${hostname}]` : hostname;
  return { operation, hostname, port: port as number, unix: null, text: `${host}:${port}` };
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
  const error = new UringError("ENOENT", place.operation, message);
  error.cause = cause;
  return error;
}
