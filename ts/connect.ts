// connect(): a client connection with Bun.connect's options and handlers.
//
// Names are resolved by Bun; the addresses are tried one after the other, in the resolver's order.
// The promise settles after `open`, or after `connectError`, has run.

import { numericAddress, readPlace, resolve, type Place, type PlaceOptions } from "./address.ts";
import { argumentError, resultError } from "./errors.ts";
import { readHandlers, type BinaryType, type Handlers, type SocketHandler } from "./handlers.ts";
import { readRing } from "./listen.ts";
import { writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";
import { Socket } from "./socket.ts";

export interface ConnectOptions<Data = undefined, Type extends BinaryType = "buffer">
  extends PlaceOptions {
  socket: SocketHandler<Data, Type>;
  data?: Data;
  /** After the peer's FIN the socket stays writable until `end`. Default false. */
  allowHalfOpen?: boolean;
  /** The ring to use. Default: this thread's. */
  ring?: Ring;
}

/**
 * Connects to a TCP port or a Unix socket. Wrong arguments throw at once; a connection that cannot
 * be made rejects with a `UringError`: "ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH". See connect(2).
 */
export function connect<Data = undefined, Type extends BinaryType = "buffer">(
  options: ConnectOptions<Data, Type>,
): Promise<Socket<Data>> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("connect", "options", "an object", options);
  }
  const handlers = readHandlers("connect", options.socket, options.allowHalfOpen);
  const place = readPlace("connect", options);
  const ring = readRing("connect", options.ring);
  const known = numericAddress(place);
  // Without a name there is nothing to wait for: the connect leaves with this turn.
  if (known !== null) return attempt(ring, known, handlers, options.data as Data, place);
  return tryAll(ring, place, handlers, options.data as Data);
}

async function tryAll<Data>(
  ring: Ring,
  place: Place,
  handlers: Handlers,
  data: Data,
): Promise<Socket<Data>> {
  const addresses = await resolve(place);
  const last = addresses.pop() as NumericAddress;
  // Only the last failure is the user's business.
  const quiet: Handlers = { ...handlers, connectError: undefined };
  for (const address of addresses) {
    const attempted = await attempt(ring, address, quiet, data, place).then(
      (socket) => socket,
      () => null,
    );
    if (attempted !== null) return attempted;
  }
  return attempt(ring, last, handlers, data, place);
}

function attempt<Data>(
  ring: Ring,
  address: NumericAddress,
  handlers: Handlers,
  data: Data,
  place: Place,
): Promise<Socket<Data>> {
  ring.assertOpen("connect");
  const { promise, resolve: succeed, reject } = Promise.withResolvers<Socket<Data>>();
  const index = native.bu_connect(ring.handle, writeAddress(address), null, 0, 0);
  if (index < 0) {
    reject(resultError(index, "connect", `to ${place.text}`, "submission"));
    return promise;
  }
  const generation = ring.claimedGeneration();
  const socket = new Socket<Data>(ring, index, generation, handlers, data, undefined, (error) => {
    if (error === null) succeed(socket);
    else reject(error);
  });
  socket.target(address);
  ring.connections[index] = socket;
  ring.loop.touch();
  // `connectError` is the handler of this failure: then the rejection is not an unhandled one.
  if (handlers.connectError !== undefined) promise.catch(() => {});
  return promise;
}
