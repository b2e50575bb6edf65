// Operations on sockets that the user owns: made, named, connected, sent and received on.
//
// These are the plain system calls through the ring. `listen()` and `connect()` of the package keep
// whole connections natively and are faster for streams.

import { isIP } from "node:net";
import { ARGUMENTS_WORDS, OperationKind } from "../abi.ts";
import {
  carry,
  CopiedInput,
  type RangeOptions,
  type Source,
  type Target,
  type Transferred,
} from "../cargo.ts";
import type { Engine } from "../engine.ts";
import { argumentError, checkInteger } from "../errors.ts";
import { writeAddress, type NumericAddress } from "../memory.ts";
import {
  addressOfOperation,
  readDescriptors,
  readRoom,
  ReceivedMessage,
  SentMessage,
  type Message,
} from "../message.ts";
import {
  callbackOf,
  launch,
  optionsOf,
  type Callback,
  type Cargo,
  type Operation,
  type OperationOptions,
} from "../operation.ts";
import { RegisteredBuffer } from "../registered.ts";
import { carryVectors } from "../vectors.ts";

import type { File } from "./control.ts";
import { flagsOf } from "./file.ts";
import { PathOperations } from "./path.ts";

/** A numeric address with its port, or the path of a Unix socket. */
export type SocketAddress = { hostname: string; port: number } | { unix: string };

/** What `accept` yields. */
export interface Accepted {
  fd: number;
  /** The peer; null where it has no address. */
  address: NumericAddress | null;
}

export interface MessageOptions extends OperationOptions {
  /** MSG_ flags of send(2), recv(2). */
  flags?: number | undefined;
}

export interface SendMessageOptions extends MessageOptions {
  /** Where a datagram goes, on a socket that is not connected. */
  to?: SocketAddress | undefined;
  /** Descriptors to pass over a Unix socket; keep them open until it is sent. unix(7) */
  descriptors?: readonly number[] | undefined;
}

export interface ReceiveMessageOptions extends MessageOptions {
  /**
   * How many descriptors to take at most, up to 253; the kernel closes those that have no room.
   * Default 0.
   */
  descriptors?: number | undefined;
}

export interface SocketTransferOptions extends MessageOptions, RangeOptions {}

/** Domains and types of socket(2), by the names that the rest of the package has for them. */
const DOMAINS: Record<string, number> = { unix: 1, ipv4: 2, ipv6: 10 };
const TYPES: Record<string, number> = { stream: 1, datagram: 2, seqpacket: 5 };
/** shutdown(2): SHUT_RD and so on. */
const HOW: Record<string, number> = { read: 0, write: 1, both: 2 };
const UNIX_PATH_MAX = 107;
const WORDS = ARGUMENTS_WORDS;

function numberOf(
  kind: string,
  name: string,
  value: unknown,
  names: Record<string, number>,
): number {
  if (typeof value === "string" && Object.hasOwn(names, value)) return names[value] as number;
  if (typeof value === "string") {
    throw argumentError(kind, name, `one of ${Object.keys(names).join(", ")}`, value);
  }
  return checkInteger(kind, name, value, 0, 0xffff);
}

function addressOfSocket(kind: string, address: unknown): Uint8Array {
  const { unix, hostname, port } = (address ?? {}) as Record<string, unknown>;
  if (typeof unix === "string") {
    const length = Buffer.byteLength(unix);
    if (length === 0 || length > UNIX_PATH_MAX) {
      throw argumentError(kind, "unix", `a path of 1 to ${UNIX_PATH_MAX} bytes`, unix);
    }
    return writeAddress({ family: "unix", host: unix, port: 0 });
  }
  const host = typeof hostname === "string" ? hostname.replace(/^\[(.*)\]$/, "$1") : "";
  const version = isIP(host);
  if (version === 0) throw argumentError(kind, "hostname", "a numeric address", hostname);
  const number = checkInteger(kind, "port", port, 0, 65535);
  return writeAddress({ family: version === 6 ? "ipv6" : "ipv4", host, port: number });
}

class AcceptedCargo implements Cargo<Accepted> {
  readonly input = null;
  readonly buffer = undefined;
  #address: NumericAddress | null = null;

  // The address comes back in native memory.
  board(): void {}
  orphan(): void {}

  land(engine: Engine, index: number, result: number): number {
    if (result >= 0 && index >= 0) this.#address = addressOfOperation(engine, index);
    return result;
  }

  value(fd: number): Accepted {
    return { fd, address: this.#address };
  }

  detail(): NumericAddress | null {
    return this.#address;
  }
}

export class SocketOperations extends PathOperations {
  /** Makes a socket: its descriptor, close-on-exec. Callback: `(result)`. socket(2) */
  socket(
    domain: "ipv4" | "ipv6" | "unix" | number,
    type: "stream" | "datagram" | "seqpacket" | number = "stream",
    options?: (OperationOptions & { protocol?: number }) | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("socket", options as OperationOptions & { protocol?: number });
    const told = callbackOf("socket", options, callback);
    const family = numberOf("socket", "domain", domain, DOMAINS);
    // The type may carry SOCK_NONBLOCK.
    const bits = numberOf("socket", "type", type, TYPES);
    const protocol = checkInteger("socket", "protocol", given.protocol ?? 0, 0, 0xffff);
    this.assertOpen("socket");
    this.memory.arguments.reset(family);
    this.memory.arguments.integers[WORDS.mode] = bits;
    this.memory.arguments.integers[WORDS.flags] = protocol;
    return launch<number>(this, OperationKind.socket, -1, null, given, told).makesDescriptor();
  }

  /** Gives a socket its address. Callback: `(result)`. bind(2) */
  bind(
    fd: number,
    address: SocketAddress,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    return this.#named("bind", OperationKind.bind, fd, address, options, callback);
  }

  /** Connects a socket. Callback: `(result)`. connect(2) */
  connect(
    fd: File,
    address: SocketAddress,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    return this.#named("connect", OperationKind.connect, fd, address, options, callback);
  }

  #named(
    name: string,
    kind: OperationKind,
    fd: File,
    address: SocketAddress,
    options: OperationOptions | Callback | undefined,
    callback: Callback | undefined,
  ): Operation {
    const given = optionsOf(name, options);
    const told = callbackOf(name, options, callback);
    const cargo = new CopiedInput(addressOfSocket(name, address));
    return launch(this, kind, this.prepareFile(name, fd), cargo, given, told);
  }

  /** Makes a socket listen. Callback: `(result)`. listen(2) */
  listen(
    fd: number,
    backlog = 128,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("listen", options);
    const told = callbackOf("listen", options, callback);
    checkInteger("listen", "backlog", backlog, 0, 65535);
    const descriptor = this.prepareFile("listen", fd);
    this.memory.arguments.integers[WORDS.length] = backlog;
    return launch(this, OperationKind.listen, descriptor, null, given, told);
  }

  /**
   * Takes one connection: `{ fd, address }`, close-on-exec. Callback: `(result, address)`. A
   * descriptor that nobody awaits is closed with its handle. accept4(2)
   */
  accept(
    fd: File,
    options?: MessageOptions | Callback<NumericAddress | null>,
    callback?: Callback<NumericAddress | null>,
  ): Operation<Accepted> {
    const given = optionsOf("accept", options as MessageOptions);
    const told = callbackOf("accept", options, callback);
    const flags = flagsOf("accept", given.flags);
    const descriptor = this.prepareFile("accept", fd);
    this.memory.arguments.integers[WORDS.flags] = flags;
    const cargo = new AcceptedCargo();
    return launch(this, OperationKind.accept, descriptor, cargo, given, told).makesDescriptor();
  }

  /** Sends: `{ bytes, buffer }`, never with SIGPIPE. Callback: `(result, buffer)`. send(2) */
  send<B extends Source>(
    fd: File,
    buffer: B,
    options?: SocketTransferOptions | Callback<B>,
    callback?: Callback<B>,
  ): Operation<Transferred<B>> {
    return this.#move("send", OperationKind.send, fd, buffer, false, options, callback);
  }

  /** Receives: `{ bytes, buffer }`, 0 after FIN. Callback: `(result, buffer)`. recv(2) */
  recv<B extends Target>(
    fd: File,
    buffer: B,
    options?: SocketTransferOptions | Callback<B>,
    callback?: Callback<B>,
  ): Operation<Transferred<B>> {
    return this.#move("recv", OperationKind.recv, fd, buffer, true, options, callback);
  }

  #move<B>(
    name: string,
    kind: OperationKind,
    fd: File,
    buffer: B,
    written: boolean,
    options: SocketTransferOptions | Callback<B> | undefined,
    callback: Callback<B> | undefined,
  ): Operation<Transferred<B>> {
    const given = optionsOf(name, options as SocketTransferOptions);
    const told = callbackOf(name, options, callback);
    const flags = flagsOf(name, given.flags);
    refuseRegistered(name, buffer);
    const cargo = carry(name, buffer, given, written);
    const descriptor = this.prepareFile(name, fd);
    this.memory.arguments.integers[WORDS.flags] = flags;
    return launch(this, kind, descriptor, cargo, given, told);
  }

  /**
   * Sends several buffers as one message; a datagram also without a connection, `to` an address.
   * Callback: `(result, buffers)`. sendmsg(2)
   */
  sendmsg<B extends Source>(
    fd: File,
    buffers: readonly B[],
    options?: SendMessageOptions | Callback<readonly B[]>,
    callback?: Callback<readonly B[]>,
  ): Operation<Transferred<readonly B[]>> {
    const given = optionsOf("sendmsg", options as SendMessageOptions);
    const told = callbackOf("sendmsg", options, callback);
    const flags = flagsOf("sendmsg", given.flags);
    const vectors = carryVectors("sendmsg", buffers, false);
    const to = given.to === undefined ? null : addressOfSocket("sendmsg", given.to);
    const descriptors = readDescriptors("sendmsg", given.descriptors);
    const plain = to === null && descriptors.length === 0;
    const cargo = plain ? vectors : new SentMessage(vectors, to, descriptors);
    const descriptor = this.prepareFile("sendmsg", fd);
    this.memory.arguments.integers[WORDS.flags] = flags;
    return launch(this, OperationKind.sendmsg, descriptor, cargo, given, told);
  }

  /**
   * Receives one message into several buffers: `{ bytes, buffer, address, descriptors }`. Callback:
   * `(result, message)`. Descriptors that nobody awaits are closed with the handle. recvmsg(2)
   */
  recvmsg<B extends Target>(
    fd: File,
    buffers: readonly B[],
    options?: ReceiveMessageOptions | Callback<Message<B>>,
    callback?: Callback<Message<B>>,
  ): Operation<Message<B>> {
    const given = optionsOf("recvmsg", options as ReceiveMessageOptions);
    const told = callbackOf("recvmsg", options, callback);
    const flags = flagsOf("recvmsg", given.flags);
    const room = readRoom("recvmsg", given.descriptors);
    const cargo = new ReceivedMessage(carryVectors("recvmsg", buffers, true), room);
    const descriptor = this.prepareFile("recvmsg", fd);
    this.memory.arguments.integers[WORDS.flags] = flags;
    const operation = launch(this, OperationKind.recvmsg, descriptor, cargo, given, told);
    return room === 0 ? operation : operation.makesDescriptor();
  }

  /** Ends one direction or both. Callback: `(result)`. shutdown(2) */
  shutdown(
    fd: File,
    how: "read" | "write" | "both" = "both",
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    const given = optionsOf("shutdown", options);
    const told = callbackOf("shutdown", options, callback);
    const number = numberOf("shutdown", "how", how, HOW);
    const descriptor = this.prepareFile("shutdown", fd);
    this.memory.arguments.integers[WORDS.flags] = number;
    return launch(this, OperationKind.shutdown, descriptor, null, given, told);
  }
}

function refuseRegistered(kind: string, buffer: unknown): void {
  if (!(buffer instanceof RegisteredBuffer)) return;
  throw argumentError(kind, "buffer", "no registered buffer: those are for read and write", buffer);
}
