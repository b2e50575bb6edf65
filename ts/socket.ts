// Socket: one connection as its user sees it, with Bun.Socket's names.
//
// Its floors, from the bottom: `connection.ts` (records to handlers), `sending.ts`, `closing.ts`,
// `reading.ts`, `tls.ts`. Here stand the writable stream, addresses, options, and what keeps the
// process alive.

import { End, Family, SocketOption } from "./abi.ts";
import type { HandlerResult } from "./completion.ts";
import type { Opening } from "./connection.ts";
import { checkBoolean, checkInteger, UringError } from "./errors.ts";
import type { Handlers } from "./handlers.ts";
import type { Listener } from "./listen.ts";
import { readAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";
import { writableOf, type Writable } from "./streams.ts";
import { WithoutTls } from "./tls.ts";

export class Socket<Data = undefined> extends WithoutTls<Data> {
  readonly #listener: Listener<Data> | undefined;
  #writable: WritableStream<Writable> | null = null;
  /** Writers of the stream that wait for room. */
  #room: PromiseWithResolvers<void> | null = null;

  /** @internal Sockets come from `listen` and `connect`. */
  constructor(
    ring: Ring,
    handlers: Handlers,
    data: Data,
    listener: Listener<Data> | undefined,
    opening: Opening | null,
  ) {
    super(ring, handlers, data, opening);
    this.#listener = listener;
  }

  // The writable stream ------------------------------------------------------------------------

  /**
   * A stream of what `write` takes; a write is done when all of it was taken. `close` is `end`,
   * `abort` is `terminate`. Once it was asked for, the peer's FIN no longer ends this side: closing
   * the stream does.
   */
  get writable(): WritableStream<Writable> {
    if (this.#writable !== null) return this.#writable;
    this.staysWritable = true;
    this.#writable = writableOf({
      write: (chunk) => this.#writeAll(chunk),
      end: () => void this.end(),
      terminate: () => this.terminate(),
      onGone: (tell) => this.whenGone((failure) => {
        tell(failure ?? new UringError("EPIPE", "write", "write: the connection is closed"));
        this.#room?.resolve();
      }),
    });
    return this.#writable;
  }

  #writeAll(chunk: unknown): Promise<void> | undefined {
    const bytes = this.bytesOf("write", chunk, undefined, undefined);
    const taken = this.offer(bytes);
    return taken === bytes.byteLength ? undefined : this.#writeRest(bytes, taken);
  }

  async #writeRest(bytes: Uint8Array, first: number): Promise<void> {
    let rest = bytes;
    for (let taken = first; ; taken = this.offer(rest)) {
      if (taken < 0) throw this.reason ?? new UringError("EPIPE", "write", "write: it was ended");
      rest = rest.subarray(taken);
      if (rest.byteLength === 0) return;
      this.#room ??= Promise.withResolvers<void>();
      await this.#room.promise;
    }
  }

  /** @internal */
  override onDrain(): HandlerResult {
    const room = this.#room;
    this.#room = null;
    room?.resolve();
    return super.onDrain();
  }

  // Properties ---------------------------------------------------------------------------------

  /** Bun's numbers: 1 established, 2 connecting, -2 when it was ended, -1 closed. */
  get readyState(): -2 | -1 | 1 | 2 {
    if (this.stage === "open") return 1;
    if (this.stage === "ending") return -2;
    return this.stage === "connecting" ? 2 : -1;
  }

  /** The listener that accepted it; undefined for `connect`, and when the socket is closed. */
  get listener(): Listener<Data> | undefined {
    return this.stage === "closed" ? undefined : this.#listener;
  }

  /** The descriptor, -1 when it is closed. It is the socket's own: leave closing to it. */
  get fd(): number {
    return Math.max(native.bu_connection_fd(this.ring.handle, this.index, this.generation), -1);
  }

  get remoteAddress(): string | undefined {
    return hostOf(this.#address(End.remote));
  }

  get remotePort(): number | undefined {
    return portOf(this.#address(End.remote));
  }

  get remoteFamily(): "IPv4" | "IPv6" | undefined {
    return familyOf(this.#address(End.remote));
  }

  get localAddress(): string | undefined {
    return hostOf(this.#address(End.local));
  }

  get localPort(): number | undefined {
    return portOf(this.#address(End.local));
  }

  get localFamily(): "IPv4" | "IPv6" | undefined {
    return familyOf(this.#address(End.local));
  }

  /** Asked of the kernel once; undefined if that was not done while the socket was open. */
  #address(end: End): NumericAddress | undefined {
    const known = end === End.local ? this.local : this.remote;
    if (known !== null) return known;
    if (this.stage === "closed" || this.stage === "connecting") return undefined;
    const { handle } = this.ring;
    const address = readAddress((out) =>
      native.bu_connection_address(handle, this.index, this.generation, end, out),
    );
    if (end === End.local) this.local = address;
    else this.remote = address;
    return address ?? undefined;
  }

  // Options ------------------------------------------------------------------------------------

  /** TCP_NODELAY, on by default. False if the socket is closed or not TCP. tcp(7) */
  setNoDelay(noDelay = true): boolean {
    checkBoolean("setNoDelay", "noDelay", noDelay);
    return this.#option(SocketOption.no_delay, noDelay ? 1 : 0) >= 0;
  }

  /** SO_KEEPALIVE; `initialDelay` is the idle time before the first probe, in milliseconds. */
  setKeepAlive(enable = false, initialDelay = 0): boolean {
    checkBoolean("setKeepAlive", "enable", enable);
    checkInteger("setKeepAlive", "initialDelay", initialDelay, 0, 2_147_483_647);
    const seconds = Math.max(1, Math.ceil((initialDelay || KEEP_ALIVE_IDLE_MS) / 1000));
    const value = enable ? Math.min(seconds, 32767) : 0;
    return this.#option(SocketOption.keep_alive, value) >= 0;
  }

  /** IP_TOS, IPv6's traffic class: 0 to 255. 0, or a negative errno. ip(7) */
  setTypeOfService(tos: number): number {
    checkInteger("setTypeOfService", "tos", tos, 0, 255);
    return Math.min(this.#option(SocketOption.type_of_service, tos), 0);
  }

  /** The number that was set, 0 at first, or a negative errno. */
  getTypeOfService(): number {
    const { ring, index, generation } = this;
    const option = SocketOption.type_of_service;
    return native.bu_connection_option_read(ring.handle, index, generation, option);
  }

  #option(option: SocketOption, value: number): number {
    const { ring, index, generation } = this;
    return native.bu_connection_option(ring.handle, index, generation, option, value);
  }

  // The process --------------------------------------------------------------------------------

  /** The process stays alive while the socket is open: the default. */
  ref(): void {
    this.#reference(true);
  }

  unref(): void {
    this.#reference(false);
  }

  #reference(keepsAlive: boolean): void {
    if (this.stage === "closed" || this.keepsAlive === keepsAlive) return;
    this.keepsAlive = keepsAlive;
    this.ring.referenced(keepsAlive ? 1 : -1);
  }

  get [Symbol.toStringTag](): string {
    return "TCPSocket";
  }

  /** What console.log shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): object {
    const { data, readyState, remoteAddress, remotePort, localAddress, localPort } = this;
    const shown = { data, readyState, remoteAddress, remotePort, localAddress, localPort };
    return Object.assign(Object.create({ constructor: Socket }) as object, shown);
  }
}

/** Linux' default is two hours; Node's and Bun's, when keep-alive is asked for without a delay. */
const KEEP_ALIVE_IDLE_MS = 7_200_000;

function hostOf(address: NumericAddress | undefined): string | undefined {
  return address?.family === "unix" ? undefined : address?.host;
}

function portOf(address: NumericAddress | undefined): number | undefined {
  return address === undefined || address.family === "unix" ? undefined : address.port;
}

function familyOf(address: NumericAddress | undefined): "IPv4" | "IPv6" | undefined {
  if (address === undefined || address.family === "unix") return undefined;
  return Family[address.family] === Family.ipv6 ? "IPv6" : "IPv4";
}
