// What can be set on a datagram socket: broadcast, time to live, multicast groups.
//
// Each call is one setsockopt(2), done at once; what the kernel refuses is thrown. Interfaces are
// named by an address of theirs: an IPv4 one, or an IPv6 one with a zone.

import { isIP } from "node:net";
import { DatagramOption, MembershipAction } from "./abi.ts";
import {
  numericHost,
  textOf,
  type DatagramHandlers,
  type DatagramType,
} from "./datagram_options.ts";
import { DatagramRecords } from "./datagram_records.ts";
import {
  argumentError,
  checkBoolean,
  checkInteger,
  resultError,
  UringError,
} from "./errors.ts";
import { readAddress, writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

/** What a socket is made with. */
export interface DatagramMade {
  ring: Ring;
  handlers: DatagramHandlers;
  type: DatagramType;
}

export abstract class DatagramSettings extends DatagramRecords {
  protected readonly local: NumericAddress | null;
  protected readonly remote: NumericAddress | null;

  constructor(
    { ring, handlers, type }: DatagramMade,
    index: number,
    source: NumericAddress | null,
    target: NumericAddress | null,
  ) {
    super(ring, index, handlers, type);
    this.remote = target;
    this.local = readAddress((out) =>
      native.bu_datagram_address(ring.handle, index, this.generation, out),
    ) ?? source;
  }

  /** SO_BROADCAST: may send to broadcast addresses. The value given. */
  setBroadcast(enabled: boolean): boolean {
    checkBoolean("setBroadcast", "enabled", enabled);
    this.#set("setBroadcast", DatagramOption.broadcast, enabled ? 1 : 0);
    return enabled;
  }

  /** IP_TTL, IPV6_UNICAST_HOPS: 1 to 255. The value given. */
  setTTL(ttl: number): number {
    checkInteger("setTTL", "ttl", ttl, 1, 255);
    this.#set("setTTL", DatagramOption.ttl, ttl);
    return ttl;
  }

  /** IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS: 0 to 255. The value given. */
  setMulticastTTL(ttl: number): number {
    checkInteger("setMulticastTTL", "ttl", ttl, 0, 255);
    this.#set("setMulticastTTL", DatagramOption.multicast_ttl, ttl);
    return ttl;
  }

  /** IP_MULTICAST_LOOP: what is sent to groups arrives on this machine, too. The value given. */
  setMulticastLoopback(enabled: boolean): boolean {
    checkBoolean("setMulticastLoopback", "enabled", enabled);
    this.#set("setMulticastLoopback", DatagramOption.multicast_loopback, enabled ? 1 : 0);
    return enabled;
  }

  #set(operation: string, option: DatagramOption, value: number): void {
    this.#check(operation, this.option(option, value));
  }

  protected option(option: DatagramOption, value: number): number {
    const { handle } = this.engine;
    return native.bu_datagram_option(handle, this.index, this.generation, option, value);
  }

  /** What is sent to groups leaves by the interface of this address. IP_MULTICAST_IF */
  setMulticastInterface(interfaceAddress: string): boolean {
    const { send_by } = MembershipAction;
    return this.#member("setMulticastInterface", send_by, null, null, interfaceAddress);
  }

  /** Joins a multicast group, on the interface of an address. IP_ADD_MEMBERSHIP */
  addMembership(multicastAddress: string, interfaceAddress?: string): boolean {
    const { join } = MembershipAction;
    return this.#member("addMembership", join, multicastAddress, null, interfaceAddress);
  }

  dropMembership(multicastAddress: string, interfaceAddress?: string): boolean {
    const { leave } = MembershipAction;
    return this.#member("dropMembership", leave, multicastAddress, null, interfaceAddress);
  }

  /** Joins a group for what one source sends. IP_ADD_SOURCE_MEMBERSHIP */
  addSourceSpecificMembership(
    sourceAddress: string,
    groupAddress: string,
    interfaceAddress?: string,
  ): boolean {
    const name = "addSourceSpecificMembership";
    const { join_source } = MembershipAction;
    return this.#member(name, join_source, groupAddress, sourceAddress, interfaceAddress);
  }

  dropSourceSpecificMembership(
    sourceAddress: string,
    groupAddress: string,
    interfaceAddress?: string,
  ): boolean {
    const name = "dropSourceSpecificMembership";
    const { leave_source } = MembershipAction;
    return this.#member(name, leave_source, groupAddress, sourceAddress, interfaceAddress);
  }

  #member(
    operation: string,
    action: MembershipAction,
    group: unknown,
    source: unknown,
    place: unknown,
  ): boolean {
    const optional = action !== MembershipAction.send_by;
    const outcome = native.bu_datagram_membership(
      this.engine.handle,
      this.index,
      this.generation,
      action,
      group === null ? null : numericRecord(operation, "multicastAddress", group),
      source === null ? null : numericRecord(operation, "sourceAddress", source),
      optional && place === undefined
        ? null
        : numericRecord(operation, "interfaceAddress", place),
    );
    this.#check(operation, outcome);
    return true;
  }

  #check(operation: string, outcome: number): void {
    if (outcome >= 0) return;
    if (this.ended) {
      throw new UringError("EBADF", operation, `${operation}: the socket is closed`);
    }
    throw resultError(outcome, operation, this.subject(), "submission");
  }

  protected subject(): string {
    const place = this.remote ?? this.local;
    if (place === null) return "socket";
    return textOf({
      hostname: place.host,
      port: place.port,
      unix: place.family === "unix" ? place.host : null,
    });
  }
}

function numericRecord(operation: string, name: string, address: unknown): Uint8Array {
  const numeric = typeof address === "string" && isIP(address) > 0 ? numericHost(address, 0) : null;
  if (numeric === null) throw argumentError(operation, name, "a numeric address", address);
  return writeAddress(numeric);
}
