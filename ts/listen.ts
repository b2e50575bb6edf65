// listen(): a listening socket with Bun.listen's options, handlers and methods.
//
// The accept loop is native (listen.zig). This half checks the options, resolves the host name,
// makes a Socket for each connection and keeps the list for `stop(true)`.

import { unlinkSync } from "node:fs";
import { ListenFlag } from "./abi.ts";
import { bindAddress, readPlace, type PlaceOptions } from "./address.ts";
import type { ConnectionReceiver, ListenerReceiver } from "./completion.ts";
import {
  argumentError,
  checkBoolean,
  checkInteger,
  reportUncaught,
  resultError,
} from "./errors.ts";
import { readHandlers, type BinaryType, type Handlers, type SocketHandler } from "./handlers.ts";
import { readAddress, writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import { Ring } from "./ring.ts";
import { Socket } from "./socket.ts";

export interface ListenOptions<Data = undefined, Type extends BinaryType = "buffer">
  extends PlaceOptions {
  socket: SocketHandler<Data, Type>;
  /** What each connection's `data` starts as. */
  data?: Data;
  /** Connections that may wait to be accepted: listen(2). Default 4096. */
  backlog?: number;
  /** Several sockets may listen on the port, the kernel spreads connections: SO_REUSEPORT. */
  reusePort?: boolean;
  /** An IPv6 listener takes no IPv4 connections: IPV6_V6ONLY. */
  ipv6Only?: boolean;
  /** Do not share the port: refuses `reusePort`. */
  exclusive?: boolean;
  /** After the peer's FIN the socket stays writable until `end`. Default false. */
  allowHalfOpen?: boolean;
  /** The ring to listen on. Default: this thread's. */
  ring?: Ring;
}

const BACKLOG = 4096;

/**
 * Listens on a TCP port or a Unix socket. Throws a `UringError` at once if that cannot be:
 * "EADDRINUSE", "EACCES", "EADDRNOTAVAIL", "EINVAL". See bind(2), listen(2).
 */
export function listen<Data = undefined, Type extends BinaryType = "buffer">(
  options: ListenOptions<Data, Type>,
): Listener<Data> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("listen", "options", "an object", options);
  }
  const handlers = readHandlers("listen", options.socket, options.allowHalfOpen);
  if (handlers.data === undefined) {
    throw argumentError("listen", "socket.data", "a function", undefined);
  }
  const place = readPlace("listen", options);
  const backlog = checkInteger("listen", "backlog", options.backlog ?? BACKLOG, 1, 65535);
  const flags = readFlags(options);
  const ring = readRing("listen", options.ring);
  const address = bindAddress(place);
  const outcome = native.bu_listener_open(ring.handle, writeAddress(address), backlog, flags);
  if (outcome < 0) throw resultError(outcome, "listen", `on ${place.text}`, "submission");
  return new Listener(ring, outcome, handlers, options.data as Data, address, place.text);
}

export function readRing(operation: string, ring: unknown): Ring {
  const chosen = ring ?? Ring.default;
  if (!(chosen instanceof Ring)) throw argumentError(operation, "ring", "a Ring", ring);
  chosen.assertOpen(operation);
  return chosen;
}

function readFlags(options: {
  reusePort?: unknown;
  ipv6Only?: unknown;
  exclusive?: unknown;
}): number {
  const reusePort = checkBoolean("listen", "reusePort", options.reusePort ?? false);
  const ipv6Only = checkBoolean("listen", "ipv6Only", options.ipv6Only ?? false);
  if (checkBoolean("listen", "exclusive", options.exclusive ?? false) && reusePort) {
    throw argumentError("listen", "exclusive", "false together with reusePort", true);
  }
  return (
    (reusePort ? 1 << ListenFlag.reuse_port : 0) | (ipv6Only ? 1 << ListenFlag.ipv6_only : 0)
  );
}

export class Listener<Data = undefined> implements ListenerReceiver, Disposable {
  data: Data;
  readonly #ring: Ring;
  readonly #index: number;
  readonly #generation: number;
  readonly #address: NumericAddress;
  readonly #text: string;
  readonly #sockets = new Set<Socket<Data>>();
  #handlers: Handlers;
  #state: "open" | "stopping" | "closed" = "open";
  #keepsAlive = true;

  /** @internal Listeners come from `listen`. */
  constructor(
    ring: Ring,
    index: number,
    handlers: Handlers,
    data: Data,
    asked: NumericAddress,
    text: string,
  ) {
    this.data = data;
    this.#ring = ring;
    this.#index = index;
    this.#generation = ring.claimedGeneration();
    this.#handlers = handlers;
    this.#text = text;
    const bound = readAddress((out) =>
      native.bu_listener_address(ring.handle, index, this.#generation, out),
    );
    this.#address = bound ?? asked;
    ring.listeners[index] = this;
    ring.opened(true);
    ring.loop.touch();
  }

  /** The port bound, also where 0 was asked for; 0 for a Unix socket. */
  get port(): number {
    return this.#address.port;
  }

  /** The address bound, numeric. */
  get hostname(): string {
    return this.#address.host;
  }

  /** The path of a Unix socket, else undefined. */
  get unix(): string | undefined {
    return this.#address.family === "unix" ? this.#address.host : undefined;
  }

  get ring(): Ring {
    return this.#ring;
  }

  /** Connections of this listener that are open. */
  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** Accepts no more; with `true` every open connection is closed at once as well. */
  stop(closeActiveConnections = false): void {
    checkBoolean("stop", "closeActiveConnections", closeActiveConnections);
    if (closeActiveConnections) for (const socket of [...this.#sockets]) socket.terminate();
    if (this.#state !== "open") return;
    this.#state = "stopping";
    native.bu_listener_stop(this.#ring.handle, this.#index, this.#generation);
    this.#unlink();
    this.#ring.loop.touch();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #unlink(): void {
    const path = this.unix;
    if (path === undefined || path.startsWith("\0")) return;
    try {
      unlinkSync(path);
    } catch (error) {
      // Somebody else removed it: that is what we wanted.
      if ((error as { code?: string }).code !== "ENOENT") reportUncaught(error);
    }
  }

  /** Other handlers, for connections accepted from now on. */
  reload(options: { socket: SocketHandler<Data, BinaryType> }): void {
    this.#handlers = readHandlers("reload", options?.socket, this.#handlers.allowHalfOpen);
  }

  ref(): this {
    return this.#reference(true);
  }

  unref(): this {
    return this.#reference(false);
  }

  #reference(keepsAlive: boolean): this {
    if (this.#state === "closed" || this.#keepsAlive === keepsAlive) return this;
    this.#keepsAlive = keepsAlive;
    this.#ring.referenced(keepsAlive ? 1 : -1);
    return this;
  }

  /** @internal */
  accept(index: number, generation: number): ConnectionReceiver {
    const socket = new Accepted<Data>(
      this.#ring,
      index,
      generation,
      this.#handlers,
      this.data,
      this,
      null,
    );
    this.#sockets.add(socket);
    return socket;
  }

  /** @internal */
  forget(socket: Socket<Data>): void {
    this.#sockets.delete(socket);
  }

  /** @internal */
  onClosed(result: number): void {
    if (this.#state === "closed") return;
    const expected = this.#state === "stopping" || this.#ring.closed;
    if (this.#state === "open") this.#unlink();
    this.#state = "closed";
    this.#ring.listeners[this.#index] = undefined;
    this.#ring.gone(this.#keepsAlive);
    // Nobody asked for it: a server that accepts no more must not look healthy.
    if (!expected) reportUncaught(resultError(result, "accept", `on ${this.#text}`, "completion"));
  }
}

/** A connection that its listener counts. */
class Accepted<Data> extends Socket<Data> {
  override onClose(result: number): unknown {
    (this.listener as Listener<Data>).forget(this);
    return super.onClose(result);
  }
}

