// Socket: one connection as its user sees it, with Bun.Socket's names.
//
// Floors lie below: `connection.ts` (records to handlers), `sending.ts` and `closing.ts`.
// Here stand reading, addresses, options and what keeps the process alive.

import { End, Family, SocketOption } from "./abi.ts";
import { Closing } from "./closing.ts";
import { checkBoolean, checkInteger } from "./errors.ts";
import type { Handlers } from "./handlers.ts";
import { readAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

export class Socket<Data = undefined> extends Closing<Data> {
  readonly #listener: unknown;

  /** @internal Sockets come from `listen` and `connect`. */
  constructor(
    ring: Ring,
    index: number,
    generation: number,
    handlers: Handlers,
    data: Data,
    listener: unknown,
    onSettled: ((error: Error | null) => void) | null,
  ) {
    super(ring, index, generation, handlers, data, onSettled);
    this.#listener = listener;
  }

  // Reading ------------------------------------------------------------------------------------

  /** Stops receiving, so that TCP pushes back; what is on its way is still delivered. */
  pause(): void {
    this.#pause(1);
  }

  resume(): void {
    this.#pause(0);
  }

  #pause(paused: 0 | 1): void {
    if (this.stage === "closed") return;
    native.bu_connection_pause(this.ring.handle, this.index, this.generation, paused);
    this.ring.loop.touch();
  }

  /** @internal */
  onTimeout(): void {}

  // Properties and options ---------------------------------------------------------------------

  /** Bun's numbers: 1 established, 2 connecting, -1 closed or ending. */
  get readyState(): -1 | 1 | 2 {
    if (this.stage === "open") return 1;
    return this.stage === "connecting" ? 2 : -1;
  }

  get listener(): unknown {
    return this.#listener;
  }

  get remoteAddress(): string | undefined {
    return this.#address(End.remote)?.host;
  }

  get remotePort(): number | undefined {
    return portOf(this.#address(End.remote));
  }

  get remoteFamily(): "IPv4" | "IPv6" | undefined {
    return familyOf(this.#address(End.remote));
  }

  get localAddress(): string | undefined {
    return this.#address(End.local)?.host;
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

  /** TCP_NODELAY, on by default. False if the socket is closed or not TCP. tcp(7) */
  setNoDelay(noDelay = true): boolean {
    checkBoolean("setNoDelay", "noDelay", noDelay);
    return this.#option(SocketOption.no_delay, noDelay ? 1 : 0);
  }

  /** SO_KEEPALIVE; `initialDelay` is the idle time before the first probe, in milliseconds. */
  setKeepAlive(enable = false, initialDelay = 0): boolean {
    checkBoolean("setKeepAlive", "enable", enable);
    checkInteger("setKeepAlive", "initialDelay", initialDelay, 0, 2_147_483_647);
    const seconds = Math.max(1, Math.ceil((initialDelay || KEEP_ALIVE_IDLE_MS) / 1000));
    return this.#option(SocketOption.keep_alive, enable ? Math.min(seconds, 32767) : 0);
  }

  #option(option: SocketOption, value: number): boolean {
    if (this.stage === "closed") return false;
    const { handle } = this.ring;
    return native.bu_connection_option(handle, this.index, this.generation, option, value) >= 0;
  }

  /** The process stays alive while the socket is open: the default. */
  ref(): this {
    return this.#reference(true);
  }

  unref(): this {
    return this.#reference(false);
  }

  #reference(keepsAlive: boolean): this {
    if (this.stage === "closed" || this.keepsAlive === keepsAlive) return this;
    this.keepsAlive = keepsAlive;
    this.ring.referenced(keepsAlive ? 1 : -1);
    return this;
  }
}

/** Linux' default is two hours; Node's and Bun's, when keep-alive is asked for without a delay. */
const KEEP_ALIVE_IDLE_MS = 7_200_000;

function portOf(address: NumericAddress | undefined): number | undefined {
  return address === undefined || address.family === "unix" ? undefined : address.port;
}

function familyOf(address: NumericAddress | undefined): "IPv4" | "IPv6" | undefined {
  if (address === undefined || address.family === "unix") return undefined;
  return Family[address.family] === Family.ipv6 ? "IPv6" : "IPv4";
}
