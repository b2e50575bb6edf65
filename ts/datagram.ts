// udpSocket(): datagram sockets with the shape of Bun.udpSocket, over UDP and over Unix paths.
//
// The socket itself is native (datagram.zig). This half resolves names, checks arguments and names
// the peers; `datagram_records.ts` hands out what is received. `send` copies: what it took leaves
// at the end of the turn, and the network's answers come to `error`.

import { unlinkSync } from "node:fs";
import { ADDRESS, DatagramOption, ERRNO } from "./abi.ts";
import {
  numericHost,
  readBufferSize,
  readDatagramHandlers,
  readFlags,
  readLocal,
  readRemote,
  readType,
  resolvePlace,
  sizeSentence,
  textOf,
  type DatagramHandler,
  type DatagramOptions,
  type DatagramPlace,
  type DatagramType,
} from "./datagram_options.ts";
import { DatagramSettings, type DatagramMade } from "./datagram_settings.ts";
import {
  argumentError,
  checkInteger,
  codeOf,
  reportUncaught,
  resultError,
  UringError,
} from "./errors.ts";
import { readRing } from "./listen.ts";
import { byteLengthOf, writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";
import { viewOf } from "./sending.ts";

type Data = string | ArrayBufferView | ArrayBufferLike;

/** Where a socket is, as Bun and Node tell it. */
export interface DatagramAddress {
  /** Numeric, or the path of a Unix socket. */
  address: string;
  family: "IPv4" | "IPv6" | "unix";
  port: number;
}

/** An address record, and the port in it, which is written each time. */
interface Peer {
  readonly record: Uint8Array;
  readonly port: Uint32Array;
}

/** Records of peers that were sent to, by their text; forgotten when there are many. */
const hosts = new Map<string, Peer>();
const paths = new Map<string, Peer>();
const PEERS_MAX = 4096;

/**
 * Opens a datagram socket. Wrong arguments throw at once; a place that cannot be bound rejects with
 * a `UringError`: "EADDRINUSE", "EACCES", "EADDRNOTAVAIL". See udp(7), unix(7).
 */
export function udpSocket<Type extends DatagramType = "buffer">(
  options: DatagramOptions<Type> & { connect: object },
): Promise<ConnectedDatagramSocket<Type>>;
export function udpSocket<Type extends DatagramType = "buffer">(
  options: DatagramOptions<Type> & { unix: string },
): Promise<UnixDatagramSocket<Type>>;
export function udpSocket<Type extends DatagramType = "buffer">(
  options?: DatagramOptions<Type>,
): Promise<DatagramSocket<Type>>;
export function udpSocket(options: DatagramOptions<DatagramType> = {}): Promise<unknown> {
  if (typeof options !== "object" || options === null) {
    throw argumentError("udpSocket", "options", "an object", options);
  }
  const local = readLocal(options);
  const remote = readRemote(options);
  const asked: Asked = {
    ring: readRing("udpSocket", options.ring),
    handlers: readDatagramHandlers("udpSocket", options.socket ?? {}),
    type: readType(options.binaryType ?? "buffer"),
    flags: readFlags(options),
    receiveBuffer: readBufferSize("receiveBufferSize", options.receiveBufferSize),
    sendBuffer: readBufferSize("sendBufferSize", options.sendBufferSize),
  };
  return open(asked, local, remote);
}

interface Asked extends DatagramMade {
  flags: number;
  receiveBuffer: number | undefined;
  sendBuffer: number | undefined;
}

async function open(
  asked: Asked,
  local: DatagramPlace | null,
  remote: DatagramPlace | null,
): Promise<DatagramSocket<DatagramType>> {
  const targets = remote === null ? [] : await resolvePlace(remote);
  const first = targets[0]?.family;
  const sources = local === null || (local.hostname === "" && local.unix === null)
    ? [anywhere(first, local?.port ?? 0)]
    : await resolvePlace(local);
  // A name can stand for addresses of both families: the first pair that fits.
  const source = sources.find((own) => {
    return targets.length === 0 || targets.some((peer) => peer.family === own?.family);
  }) ?? sources[0] ?? null;
  const target = targets.find((peer) => source === null || peer.family === source.family) ??
    targets[0] ?? null;
  let index = bind(asked, source, target);
  if (index === -ERRNO.EADDRINUSE) {
    // Sockets that were closed keep their ports until the kernel has given them back.
    await Promise.all(asked.ring.datagrams.map((socket) => socket?.left));
    index = bind(asked, source, target);
  }
  if (index < 0) {
    const place = local ?? remote ?? { hostname: "0.0.0.0", port: 0, unix: null };
    throw resultError(index, "udpSocket", `on ${textOf(place)}`, "submission");
  }
  const host = local?.hostname;
  return new DatagramSocket(asked, index, host === "" ? undefined : host, source, target);
}

function bind(
  { ring, flags }: Asked,
  source: NumericAddress | null,
  target: NumericAddress | null,
): number {
  ring.assertOpen("udpSocket");
  return native.bu_datagram_open(
    ring.handle,
    source === null ? null : writeAddress(source),
    target === null ? null : writeAddress(target),
    flags,
  );
}

/** Every address of the peer's family; a Unix socket is given a name by the kernel. */
function anywhere(family: NumericAddress["family"] | undefined, port: number) {
  if (family === "unix") return null;
  if (family === "ipv6") return { family, host: "::", port };
  return { family: "ipv4" as const, host: "0.0.0.0", port };
}

/** What `udpSocket` yields with `connect`: it sends to its peer alone. */
export type ConnectedDatagramSocket<Type extends DatagramType = "buffer"> =
  Omit<DatagramSocket<Type>, "send" | "sendMany" | "remoteAddress"> & {
    readonly remoteAddress: DatagramAddress;
    send(data: Data): boolean;
    sendMany(packets: readonly Data[]): number;
  };

/** What `udpSocket` yields with `unix`: it sends to paths. */
export type UnixDatagramSocket<Type extends DatagramType = "buffer"> =
  Omit<DatagramSocket<Type>, "send" | "sendMany"> & {
    send(data: Data, path: string): boolean;
    /** Data and path in turn. */
    sendMany(packets: readonly (Data | string)[]): number;
  };

export class DatagramSocket<Type extends DatagramType = "buffer"> extends DatagramSettings
  implements Disposable {
  readonly #hostname: string | undefined;
  #keepsAlive = true;
  #gone = false;

  /** @internal Sockets come from `udpSocket`. */
  constructor(
    asked: Asked,
    index: number,
    hostname: string | undefined,
    source: NumericAddress | null,
    target: NumericAddress | null,
  ) {
    super(asked, index, source, target);
    this.#hostname = hostname;
    asked.ring.datagrams[index] = this;
    asked.ring.opened(true);
    asked.ring.loop.touch();
    // More than the limit of the machine is no error: the kernel gives what it may.
    const { receiveBuffer, sendBuffer } = asked;
    if (receiveBuffer !== undefined) this.option(DatagramOption.receive_buffer, receiveBuffer);
    if (sendBuffer !== undefined) this.option(DatagramOption.send_buffer, sendBuffer);
  }

  // What it is ---------------------------------------------------------------------------------

  get ring(): Ring {
    return this.engine;
  }

  /** What `hostname` was; else the address bound. */
  get hostname(): string {
    return this.#hostname ?? this.local?.host ?? "";
  }

  /** The port bound, also where 0 was asked for; 0 for a Unix socket. */
  get port(): number {
    return this.local?.port ?? 0;
  }

  get address(): DatagramAddress {
    return addressOf(this.local) as DatagramAddress;
  }

  /** The peer of a connected socket. */
  get remoteAddress(): DatagramAddress | undefined {
    return addressOf(this.remote);
  }

  get binaryType(): Type {
    return this.type as Type;
  }

  get closed(): boolean {
    return this.ended;
  }

  // Sending ------------------------------------------------------------------------------------

  /**
   * Queues a datagram, as a copy, that leaves at the end of the turn. False if it was not taken,
   * because too much is queued: wait for `drain`. `port` and `address` where the socket is not
   * connected: numeric, or the path alone for a Unix socket. Throws what can be told at once, such
   * as "EMSGSIZE". sendmsg(2)
   */
  send(data: Data, port?: number | string, address?: string): boolean {
    const bytes = data instanceof Uint8Array ? data : viewOf("send", data);
    return this.#send("send", bytes, this.#target("send", port, address));
  }

  /**
   * Queues many: each with its port and address behind it (its path, for a Unix socket), or alone
   * on a connected socket. How many were taken, from the first on: for the rest wait for `drain`.
   */
  sendMany(packets: readonly (Data | string | number)[]): number {
    if (!Array.isArray(packets)) {
      throw argumentError("sendMany", "packets", "an array", packets);
    }
    const stride = this.remote !== null ? 1 : this.#isUnix ? 2 : 3;
    const given = [...(packets as unknown[])];
    if (given.length % stride !== 0) {
      const parts = stride === 2 ? "data and path" : "data, port and address";
      throw argumentError("sendMany", "packets", `${parts} for each datagram`, packets);
    }
    // Everything is checked before the first one is sent.
    const views: Uint8Array[] = [];
    for (let at = 0; at < given.length; at += stride) {
      views.push(viewOf("sendMany", given[at]));
      this.#target("sendMany", given[at + 1], given[at + 2], stride);
    }
    for (const [place, bytes] of views.entries()) {
      const at = place * stride;
      const target = this.#target("sendMany", given[at + 1], given[at + 2], stride);
      if (!this.#send("sendMany", bytes, target)) return place;
    }
    return views.length;
  }

  #send(operation: string, bytes: Uint8Array, target: Uint8Array | null): boolean {
    const length = byteLengthOf(operation, bytes);
    if (this.ended) {
      throw new UringError("ESHUTDOWN", operation, `${operation}: the socket is closed`);
    }
    const { handle, loop } = this.engine;
    const source = length === 0 ? null : bytes;
    const { index, generation } = this;
    const taken = native.bu_datagram_send(handle, index, generation, source, length, target);
    if (taken < 0) throw this.#refusal(operation, taken, length);
    loop.touch();
    return taken > 0;
  }

  #refusal(operation: string, result: number, length: number): UringError {
    const code = codeOf(result);
    const reason = {
      EMSGSIZE: `${length} bytes are too many for one datagram: ${sizeSentence}`,
      EAFNOSUPPORT: "the socket cannot reach an address of that family",
      ESHUTDOWN: "the socket is closed",
      ENOENT: "the socket is closed",
    }[code as string];
    if (reason === undefined) return resultError(result, operation, this.subject(), "submission");
    return new UringError(code, operation, `${operation}: ${reason}`);
  }

  get #isUnix(): boolean {
    return this.local?.family === "unix";
  }

  /** The address record of a peer; null where the socket is connected. */
  #target(operation: string, port: unknown, address: unknown, stride = 3): Uint8Array | null {
    if (this.remote !== null) {
      if (stride === 1 || (port === undefined && address === undefined)) return null;
      const message = `${operation}: the socket is connected, it sends to its peer alone`;
      throw new UringError("EISCONN", operation, message);
    }
    if (this.#isUnix) {
      if (typeof port === "string" && port !== "" && Buffer.byteLength(port) <= 107) {
        const path = paths.get(port) ?? remember(paths, { family: "unix", host: port, port: 0 });
        return path.record;
      }
      throw argumentError(operation, "path", "a path of 1 to 107 bytes", port);
    }
    const number = checkInteger(operation, "port", port, 1, 65535);
    if (typeof address !== "string") {
      throw argumentError(operation, "address", "a numeric address", address);
    }
    const known = hosts.get(address);
    if (known !== undefined) {
      known.port[0] = number;
      return known.record;
    }
    const peer = numericHost(address, number);
    if (peer === null) throw argumentError(operation, "address", "a numeric address", address);
    return remember(hosts, peer, address).record;
  }

  // Life ---------------------------------------------------------------------------------------

  /** Other handlers: themselves, or as `{ socket }`. */
  reload(handlers: DatagramHandler<Type> | { socket: DatagramHandler<Type> }): void {
    const given = handlers as { socket?: unknown } | null | undefined;
    const nested = typeof given === "object" && given !== null && given.socket !== undefined;
    this.handlers = readDatagramHandlers("reload", nested ? given.socket : given);
  }

  /** Hands queued datagrams to the kernel now instead of at the end of the turn. */
  flush(): void {
    if (!this.ended) this.engine.submit();
  }

  /** What was queued leaves as far as the kernel takes it at once; nothing more is delivered. */
  close(): void {
    if (this.ended) return;
    this.leave();
    native.bu_datagram_close(this.engine.handle, this.index, this.generation);
    this.#unlink();
    this.engine.loop.touch();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #unlink(): void {
    const path = this.#isUnix ? this.local?.host ?? "" : "";
    if (path === "" || path.startsWith("\0")) return;
    try {
      unlinkSync(path);
    } catch (error) {
      // Somebody else removed it: that is what we wanted.
      if ((error as { code?: string }).code !== "ENOENT") reportUncaught(error);
    }
  }

  /** The process stays alive while the socket is open: the default. */
  ref(): this {
    return this.#reference(true);
  }

  unref(): this {
    return this.#reference(false);
  }

  #reference(keepsAlive: boolean): this {
    if (this.#gone || this.#keepsAlive === keepsAlive) return this;
    this.#keepsAlive = keepsAlive;
    this.engine.referenced(keepsAlive ? 1 : -1);
    return this;
  }

  /** @internal */
  onClosed(result: number): void {
    if (this.#gone) return;
    this.#gone = true;
    const unasked = !this.ended;
    this.hasLeft();
    const { datagrams } = this.engine;
    if (datagrams[this.index] === this) datagrams[this.index] = undefined;
    this.engine.gone(this.#keepsAlive);
    if (!unasked) return;
    this.#unlink();
    if (result < 0) this.onError(result);
  }
}

function addressOf(address: NumericAddress | null): DatagramAddress | undefined {
  if (address === null) return undefined;
  const families = { ipv4: "IPv4", ipv6: "IPv6", unix: "unix" } as const;
  return { address: address.host, family: families[address.family], port: address.port };
}

function remember(map: Map<string, Peer>, address: NumericAddress, text = address.host): Peer {
  const record = writeAddress(address);
  const peer = { record, port: new Uint32Array(record.buffer, ADDRESS.port, 1) };
  if (map.size === PEERS_MAX) map.clear();
  map.set(text, peer);
  return peer;
}
