// listen(): a listening socket with Bun.listen's options, handlers and methods.
//
// The accept loop is native (listen.zig). This half checks the options, resolves the host name,
// makes a Socket for each connection and keeps the list for `stop(true)`.

import { unlinkSync } from "node:fs";
import { ListenFlag } from "./abi.ts";
import { bindAddress, readPlace, type Place, type PlaceOptions } from "./address.ts";
import type { ConnectionReceiver, ListenerReceiver } from "./completion.ts";
import {
  argumentError,
  checkBoolean,
  checkInteger,
  reportUncaught,
  resultError,
  strangerError,
} from "./errors.ts";
import {
  readHandlers,
  reloadHandlers,
  type BinaryType,
  type Handlers,
  type Reload,
  type SharedOptions,
  type SocketHandler,
} from "./handlers.ts";
import { readAddress, writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import { readProxyProtocol, type ProxyProtocol } from "./proxy_protocol.ts";
import { Ring } from "./ring.ts";
import { Socket } from "./socket.ts";
import { withoutTls } from "./tls.ts";

export interface ListenOptions<Data = undefined, Type extends BinaryType = "buffer">
  extends PlaceOptions, SharedOptions {
  socket: SocketHandler<Data, Type>;
  /** What each connection's `data` starts as. */
  data?: Data;
  /** Connections that may wait to be accepted: listen(2). Default 4096. */
  backlog?: number;
  /** Several sockets may listen on the port, the kernel spreads connections: SO_REUSEPORT. */
  reusePort?: boolean;
  /** An IPv6 listener takes no IPv4 connections: IPV6_V6ONLY. */
  ipv6Only?: boolean;
  /** The port is this listener's alone: `reusePort` has no effect. */
  exclusive?: boolean;
  /**
   * Each connection begins with a header of the PROXY protocol, version 1 or 2: `open` comes after
   * it, `remoteAddress` and `localAddress` are what it says. A connection without one is reset.
   */
  proxyProtocol?: ProxyProtocol;
  /** The ring to listen on. Default: this thread's. */
  ring?: Ring;
}

const BACKLOG = 4096;

/**
 * Listens on a TCP port or a Unix socket. Throws a `UringError` at once if that cannot be:
 * "EADDRINUSE", "EACCES", "EADDRNOTAVAIL", "EINVAL". See bind(2), listen(2).
 */
export function listen<Data = undefined, Type extends BinaryType = "buffer">(
  options: ListenOptions<Data, Type> & { port: number; unix?: never; fd?: never },
): TCPSocketListener<Data>;
export function listen<Data = undefined, Type extends BinaryType = "buffer">(
  options: ListenOptions<Data, Type> & { unix: string; fd?: never },
): UnixSocketListener<Data>;
export function listen<Data = undefined, Type extends BinaryType = "buffer">(
  options: ListenOptions<Data, Type>,
): Listener<Data>;
export function listen<Data>(options: ListenOptions<Data, BinaryType>): Listener<Data> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("listen", "options", "an object", options);
  }
  const handlers = readServing("listen", options);
  const place = readPlace("listen", options, withoutTls);
  checkPassing("listen", handlers, place);
  const backlog = checkInteger("listen", "backlog", options.backlog ?? BACKLOG, 1, 65535);
  const flags = readFlags(options as object);
  const proxyTimeout = readProxyProtocol(options.proxyProtocol);
  const ring = readRing("listen", options.ring);
  const outcome = place.fd === null
    ? native.bu_listener_open(ring.handle, writeAddress(bindAddress(place)), backlog, flags)
    : native.bu_listener_adopt(ring.handle, place.fd, backlog);
  if (outcome < 0) {
    throw place.fd === null
      ? resultError(outcome, "listen", `on ${place.text}`, "submission")
      : strangerError(outcome, "listen", place.fd);
  }
  if (proxyTimeout > 0) awaitHeaders(ring, outcome, proxyTimeout, place.text);
  return new Listener(ring, outcome, handlers, options.data as Data, place);
}

/** The handlers of connections that come in. */
export function readServing(
  operation: string,
  options: SharedOptions & { socket: unknown },
): Handlers {
  const handlers = readHandlers(operation, options.socket, options);
  const { open, data, drain } = handlers;
  if (open !== undefined || data !== undefined || drain !== undefined) return handlers;
  const expected = "an object with a data, open or drain handler";
  throw argumentError(operation, "socket", expected, options.socket);
}

/** Descriptors are received over Unix sockets; what a given descriptor is shows later. */
export function checkPassing(operation: string, handlers: Handlers, place: Place): void {
  if (!handlers.passDescriptors || place.unix !== null || place.fd !== null) return;
  const expected = "left out: descriptors go over Unix sockets (`unix`) only";
  throw argumentError(operation, "passDescriptors", expected, true);
}

/** Before the listener accepts anybody. */
function awaitHeaders(ring: Ring, index: number, timeout: number, text: string): void {
  const generation = ring.claimedGeneration();
  const outcome = native.bu_listener_proxy(ring.handle, index, generation, timeout);
  if (outcome >= 0) return;
  native.bu_listener_stop(ring.handle, index, generation);
  throw resultError(outcome, "listen", `on ${text}`, "submission");
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
  const exclusive = checkBoolean("listen", "exclusive", options.exclusive ?? false);
  const shares = reusePort && !exclusive;
  return (shares ? 1 << ListenFlag.reuse_port : 0) | (ipv6Only ? 1 << ListenFlag.ipv6_only : 0);
}

/** What `getsockname` fills in. */
export interface SocketName {
  family?: "IPv4" | "IPv6";
  address?: string;
  port?: number;
}

export class Listener<Data = undefined> implements ListenerReceiver, Disposable {
  /** What the connections accepted from now on start with. */
  data: Data;
  readonly #ring: Ring;
  readonly #index: number;
  readonly #generation: number;
  readonly #place: Place;
  readonly #address: NumericAddress | null;
  readonly #sockets = new Set<Socket<Data>>();
  readonly #handlers: Handlers;
  #state: "open" | "stopping" | "closed" = "open";
  #keepsAlive = true;

  /** @internal Listeners come from `listen`. */
  constructor(ring: Ring, index: number, handlers: Handlers, data: Data, place: Place) {
    this.data = data;
    this.#ring = ring;
    this.#index = index;
    this.#generation = ring.claimedGeneration();
    this.#handlers = handlers;
    this.#place = place;
    this.#address = readAddress((out) =>
      native.bu_listener_address(ring.handle, index, this.#generation, out),
    );
    ring.listeners[index] = this;
    ring.opened(true);
    ring.loop.touch();
  }

  /** The port bound, also where 0 was asked for; undefined for a Unix socket. */
  get port(): number | undefined {
    return this.#isUnix ? undefined : this.#address?.port;
  }

  /** The host name as it was given, the address of a descriptor; undefined for a Unix socket. */
  get hostname(): string | undefined {
    return this.#isUnix ? undefined : this.#place.hostname || this.#address?.host;
  }

  /** The path of a Unix socket, else undefined. */
  get unix(): string | undefined {
    return this.#isUnix ? this.#place.unix ?? this.#address?.host : undefined;
  }

  get #isUnix(): boolean {
    return this.#place.unix !== null || this.#address?.family === "unix";
  }

  /** The descriptor, -1 when it is stopped. It is the listener's own: leave closing to it. */
  get fd(): number {
    const { handle } = this.#ring;
    return Math.max(native.bu_listener_fd(handle, this.#index, this.#generation), -1);
  }

  /** Writes the numeric address that is bound into `out`; nothing for a Unix socket. */
  getsockname(out: SocketName): void {
    if (typeof out !== "object" || out === null) {
      throw argumentError("getsockname", "out", "an object", out);
    }
    if (this.#isUnix || this.#address === null) return;
    out.family = this.#address.family === "ipv6" ? "IPv6" : "IPv4";
    out.address = this.#address.host;
    out.port = this.#address.port;
  }

  get ring(): Ring {
    return this.#ring;
  }

  /** Connections of this listener that are open. */
  get connectionCount(): number {
    return this.#sockets.size;
  }

  /** Accepts no more; with `true` every open connection is closed as by `socket.close`, too. */
  stop(closeActiveConnections = false): void {
    checkBoolean("stop", "closeActiveConnections", closeActiveConnections);
    if (closeActiveConnections) for (const socket of [...this.#sockets]) socket.close();
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
    const path = this.#place.unix; // of a descriptor it belongs to whoever bound it
    if (path === null || path.startsWith("\0")) return;
    try {
      unlinkSync(path);
    } catch (error) {
      // Somebody else removed it: that is what we wanted.
      if ((error as { code?: string }).code !== "ENOENT") reportUncaught(error);
    }
  }

  /** Puts other handlers in the place of all that were there, for open connections, too. */
  reload(options: Reload<Data>): void {
    reloadHandlers(this.#handlers, options);
    for (const socket of [...this.#sockets]) socket.reloaded();
  }

  /** The process stays alive while it listens: the default. */
  ref(): void {
    this.#reference(true);
  }

  unref(): void {
    this.#reference(false);
  }

  #reference(keepsAlive: boolean): void {
    if (this.#state === "closed" || this.#keepsAlive === keepsAlive) return;
    this.#keepsAlive = keepsAlive;
    this.#ring.referenced(keepsAlive ? 1 : -1);
  }

  /** @internal */
  accept(index: number, generation: number): ConnectionReceiver {
    const socket = new Accepted<Data>(this.#ring, this.#handlers, this.data, this, null);
    socket.attach(index, generation);
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
    if (expected) return;
    reportUncaught(resultError(result, "accept", `on ${this.#place.text}`, "completion"));
  }
}

/** On a port. */
export interface TCPSocketListener<Data = undefined> extends Listener<Data> {
  readonly port: number;
  readonly hostname: string;
  readonly unix: undefined;
}

/** On a path. */
export interface UnixSocketListener<Data = undefined> extends Listener<Data> {
  readonly port: undefined;
  readonly hostname: undefined;
  readonly unix: string;
}

/** A connection that its listener counts. */
class Accepted<Data> extends Socket<Data> {
  override onClose(result: number): unknown {
    this.listener?.forget(this);
    return super.onClose(result);
  }
}
