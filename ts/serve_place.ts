// Where a server listens: one socket that is bound before any Worker starts, and kept to the end.
//
// Where each Worker has a listener of its own, that socket does not listen: it holds the port, so
// that it stays the server's while every Worker is dead. Else it is what the acceptor accepts from.

import { closeSync, unlinkSync } from "node:fs";
import { ListenFlag } from "./abi.ts";
import { bindAddress, type Place } from "./address.ts";
import { resultError, strangerError, type UringError } from "./errors.ts";
import { readAddress, readWrittenAddress, writeAddress, type NumericAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

export class BoundPlace {
  readonly fd: number;
  /** What is bound; null where the descriptor does not say. */
  readonly address: NumericAddress | null;
  readonly #path: string | null;

  constructor(fd: number, address: NumericAddress | null, path: string | null) {
    this.fd = fd;
    this.address = address;
    this.#path = path;
  }

  close(): void {
    closeSync(this.fd);
    const path = this.#path; // of a descriptor it belongs to whoever bound it
    if (path === null || path.startsWith("\0")) return;
    try {
      unlinkSync(path);
    } catch (error) {
      // Somebody else removed it: that is what we wanted.
      if ((error as { code?: string }).code !== "ENOENT") throw error;
    }
  }
}

export interface PlaceSharing {
  /** 0 where Workers listen themselves. */
  readonly backlog: number;
  readonly ipv6Only: boolean;
  /** Other processes may listen there, too. */
  readonly reusePort: boolean;
}

export async function bindPlace(
  ring: Ring,
  place: Place,
  { backlog, ipv6Only, reusePort }: PlaceSharing,
): Promise<BoundPlace> {
  if (place.fd !== null) return adopt(ring, place.fd, backlog);
  const only = ipv6Only ? 1 << ListenFlag.ipv6_only : 0;
  const shared = only | (1 << ListenFlag.reuse_port);
  const bind = (flags: number): BoundPlace => {
    const record = writeAddress(bindAddress(place));
    const fd = native.bu_socket_bind(ring.handle, record, backlog, flags);
    if (fd < 0) throw resultError(fd, "serve", `on ${place.text}`, "submission");
    return new BoundPlace(fd, readWrittenAddress(record), place.unix);
  };
  // Workers have to share the port, with others not by mistake: who does not share shows them.
  if (backlog === 0 && !reusePort) bind(only).close();
  return bind(backlog === 0 || reusePort ? shared : only);
}

async function adopt(ring: Ring, fd: number, backlog: number): Promise<BoundPlace> {
  try {
    await ring.listen(fd, backlog);
  } catch (error) {
    throw strangerError((error as UringError).errno, "serve", fd);
  }
  const address = readAddress((out) => native.bu_socket_name(ring.handle, fd, out));
  return new BoundPlace(fd, address, null);
}
