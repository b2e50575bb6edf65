// The PROXY protocol as an option of `listen`: whether connections begin with a header that says
// whose they are, and how long that may take.
//
// The header is parsed by the library (proxy_protocol.zig) before anybody hears of the connection.
// There is no way to take it or leave it: whoever may connect without a header could write one of
// his own, so that the specification forbids to guess.

import { argumentError, checkInteger } from "./errors.ts";

/** What `proxyProtocol` of `listen` may be. */
export type ProxyProtocol = boolean | {
  /** Milliseconds from the connection to the end of the header. Default 5000. */
  timeout?: number;
};

/** A lost packet is sent again within three seconds; slower proxies are too slow. */
const TIMEOUT_MS = 5000;
const TIMEOUT_MAX_MS = 2_147_483_647;

/** The time in milliseconds; 0: no header is expected. */
export function readProxyProtocol(given: unknown): number {
  if (given === undefined || given === false) return 0;
  if (given === true) return TIMEOUT_MS;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw argumentError("listen", "proxyProtocol", "true, false or an object", given);
  }
  const { timeout = TIMEOUT_MS } = given as { timeout?: unknown };
  return checkInteger("listen", "proxyProtocol.timeout", timeout, 1, TIMEOUT_MAX_MS);
}
