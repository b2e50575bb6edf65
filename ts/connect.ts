// connect(): a client connection with Bun.connect's options and handlers.
//
// Names are resolved by Bun; the addresses are tried one after the other, in the resolver's order,
// until one answers. The promise settles after `open`, or after `connectError`, has run.

import { ConnectFlag, ERRNO, Shut } from "./abi.ts";
import {
  numericAddress,
  readLocal,
  readPlace,
  resolve,
  type Place,
  type PlaceOptions,
} from "./address.ts";
import type { Opening } from "./connection.ts";
import {
  argumentError,
  checkBoolean,
  checkInteger,
  resultError,
  strangerError,
  UringError,
} from "./errors.ts";
import {
  readHandlers,
  type BinaryType,
  type SharedOptions,
  type SocketHandler,
} from "./handlers.ts";
import { checkPassing, readRing } from "./listen.ts";
import { writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";
import { Socket } from "./socket.ts";
import { withoutTls } from "./tls.ts";

export interface ConnectOptions<Data = undefined, Type extends BinaryType = "buffer">
  extends PlaceOptions, SharedOptions {
  socket: SocketHandler<Data, Type>;
  data?: Data;
  /** The ring to use. Default: this thread's. */
  ring?: Ring;
  /**
   * Milliseconds for everything, the look-up of the name included; what is left is shared among the
   * addresses that are left. Default: as long as the kernel tries. Fails with "ETIMEDOUT".
   */
  timeout?: number;
  /** Gives up when it is aborted: "ECANCELED", with the signal's reason as cause. */
  signal?: AbortSignal;
  /** The address to connect from. Default: the kernel chooses. */
  localAddress?: string;
  localPort?: number;
  /** Others may use the local port, too: SO_REUSEPORT. */
  reusePort?: boolean;
  /** Only IPv6 addresses are tried, and none that stands for an IPv4 one. */
  ipv6Only?: boolean;
  /** Bun has it; a connection has nothing to share, so it has no effect. */
  exclusive?: boolean;
}

/**
 * Connects to a TCP port or a Unix socket. Wrong arguments throw at once; a connection that cannot
 * be made rejects with a `UringError`: "ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENOTFOUND".
 * See connect(2).
 */
export function connect<Data = undefined, Type extends BinaryType = "buffer">(
  options: ConnectOptions<Data, Type>,
): Promise<Socket<Data>> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("connect", "options", "an object", options);
  }
  const handlers = readHandlers("connect", options.socket, options);
  const place = readPlace("connect", options, withoutTls);
  checkPassing("connect", handlers, place);
  const route = readRoute(options);
  const ring = readRing("connect", options.ring);
  const attempt = new Attempt<Data>(ring, place, route);
  const socket = new Socket<Data>(ring, handlers, options.data as Data, undefined, attempt);
  attempt.start(socket);
  // `connectError` is the handler of this failure: then the rejection is not an unhandled one.
  if (handlers.connectError !== undefined) attempt.promise.catch(() => {});
  return attempt.promise;
}

/** How to get there. */
interface Route {
  readonly local: NumericAddress | null;
  readonly flags: number;
  readonly ipv6Only: boolean;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

function readRoute(options: object): Route {
  const given = options as Record<string, unknown>;
  const [reusePort, ipv6Only] = ["reusePort", "ipv6Only", "exclusive"].map((name) =>
    checkBoolean("connect", name, given[name] ?? false),
  ) as [boolean, boolean];
  const timeout = checkInteger("connect", "timeout", given["timeout"] ?? 0, 0, 0xffff_ffff);
  const { signal } = given;
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw argumentError("connect", "signal", "an AbortSignal", signal);
  }
  const flags =
    (reusePort ? 1 << ConnectFlag.reuse_port : 0) | (ipv6Only ? 1 << ConnectFlag.ipv6_only : 0);
  return { local: readLocal(options), flags, ipv6Only, timeout, signal };
}

/** One `connect`: its addresses, and what can end it early. */
class Attempt<Data> implements Opening {
  readonly promise: Promise<Socket<Data>>;
  readonly #ring: Ring;
  readonly #place: Place;
  readonly #route: Route;
  readonly #settle: PromiseWithResolvers<Socket<Data>>;
  readonly #deadline: number;
  readonly #abort = () => this.#giveUp(this.#aborted());
  #timer: Timer | undefined;
  #socket!: Socket<Data>;
  #addresses: NumericAddress[] = [];
  /** The slot of the address that is being tried. */
  #index = -1;
  #generation = 0;
  /** Why it was given up. */
  #reason: UringError | null = null;
  #over = false;

  constructor(ring: Ring, place: Place, route: Route) {
    this.#ring = ring;
    this.#place = place;
    this.#route = route;
    this.#settle = Promise.withResolvers<Socket<Data>>();
    this.promise = this.#settle.promise;
    this.#deadline = route.timeout === 0
      ? Number.POSITIVE_INFINITY
      : performance.now() + route.timeout;
  }

  /** Without a name there is nothing to wait for: the connect leaves with this turn. */
  start(socket: Socket<Data>): void {
    this.#socket = socket;
    const { signal, timeout } = this.#route;
    if (signal?.aborted) return this.#refuseSoon(this.#aborted());
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (this.#place.fd !== null) {
      return this.#submitted(native.bu_connection_adopt(this.#ring.handle, this.#place.fd));
    }
    const known = numericAddress(this.#place);
    if (known !== null) {
      this.#addresses = [known];
      return this.#submit();
    }
    if (timeout > 0) this.#timer = setTimeout(() => this.#giveUp(this.#late()), timeout);
    resolve(this.#place).then(
      (addresses) => this.#resolved(addresses),
      (error: Error) => this.#refuse(error),
    );
  }

  #resolved(addresses: NumericAddress[]): void {
    clearTimeout(this.#timer);
    if (this.#over) return;
    const { ipv6Only, local } = this.#route;
    const family = ipv6Only ? "ipv6" : local?.family;
    this.#addresses = addresses.filter((address) => (family ?? address.family) === address.family);
    if (this.#addresses.length > 0) return this.#submit();
    const message = `connect to ${this.#place.text}: the name has no ${family} address`;
    this.#refuse(new UringError("ENOTFOUND", "connect", message));
  }

  /** The next address. */
  #submit(): void {
    const { local, flags } = this.#route;
    const left = Math.max(1, this.#deadline - performance.now());
    const share = left === Number.POSITIVE_INFINITY ? 0 : Math.ceil(left / this.#addresses.length);
    const address = this.#addresses.shift() as NumericAddress;
    this.#socket.target(address);
    try {
      this.#ring.assertOpen("connect");
    } catch (error) {
      return this.#refuse(error as Error);
    }
    const source = local === null ? null : writeAddress(local);
    const { handle } = this.#ring;
    this.#submitted(native.bu_connect(handle, writeAddress(address), source, flags, share));
  }

  #submitted(index: number): void {
    if (index < 0) {
      if (this.#mayRetry()) return this.#submit();
      const { fd, text } = this.#place;
      return this.#refuseSoon(
        fd === null
          ? resultError(index, "connect", `to ${text}`, "submission")
          : strangerError(index, "connect", fd),
      );
    }
    this.#index = index;
    this.#generation = this.#ring.claimedGeneration();
    this.#socket.attach(index, this.#generation);
    this.#ring.loop.touch();
  }

  // What the connection asks -------------------------------------------------------------------

  get abandoned(): boolean {
    return this.#reason !== null;
  }

  retry(): boolean {
    this.#index = -1;
    if (!this.#mayRetry()) return false;
    this.#submit();
    return true;
  }

  #mayRetry(): boolean {
    const open = this.#reason === null && this.#ring.state === "open";
    return open && this.#addresses.length > 0 && performance.now() < this.#deadline;
  }

  failure(result: number): Error {
    if (this.#reason !== null) return this.#reason;
    const limited = this.#deadline !== Number.POSITIVE_INFINITY;
    if (result === -ERRNO.ETIMEDOUT && limited) return this.#late();
    return resultError(result, "connect", `to ${this.#place.text}`, "completion");
  }

  settled(error: Error | null): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#route.signal?.removeEventListener("abort", this.#abort);
    if (error === null) this.#settle.resolve(this.#socket);
    else this.#settle.reject(error);
  }

  // Giving up ----------------------------------------------------------------------------------

  #giveUp(reason: UringError): void {
    if (this.#over) return;
    this.#reason = reason;
    if (this.#index < 0) return this.#refuse(reason);
    const { handle, loop } = this.#ring;
    native.bu_connection_shut(handle, this.#index, this.#generation, Shut.terminate, 0);
    loop.touch();
  }

  #refuse(error: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#socket.outside(() => this.#socket.refuse(error));
  }

  /** `connect` returns its promise before a handler is called. */
  #refuseSoon(error: Error): void {
    queueMicrotask(() => this.#refuse(error));
  }

  #aborted(): UringError {
    const message = `connect to ${this.#place.text}: aborted by its signal`;
    const error = new UringError("ECANCELED", "connect", message, "completion");
    error.name = "AbortError";
    error.cause = this.#route.signal?.reason;
    return error;
  }

  #late(): UringError {
    const message = `connect to ${this.#place.text}: nobody answered in ${this.#route.timeout} ms`;
    const error = new UringError("ETIMEDOUT", "connect", message, "completion");
    error.name = "TimeoutError";
    return error;
  }
}
