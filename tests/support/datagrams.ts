// Datagrams in tests: what a socket was told, numbered payloads, descriptors of sockets.
//
// Datagrams may be lost by their nature, yet on one machine, below the limits of its buffers, they
// are not: the tests count on every one.

import { readFileSync, readlinkSync } from "node:fs";
import { descriptors } from "./descriptors.ts";

export interface Mail {
  data: Buffer;
  port: number;
  address: string;
  truncated: boolean;
  ipv6: boolean;
}

/** What one socket was told, with a promise for each number of datagrams. */
export class Inbox {
  readonly mail: Mail[] = [];
  readonly errors: Error[] = [];
  drains = 0;
  #waiting: { count: number; resolve: () => void; of: unknown[] }[] = [];
  #drained = Promise.withResolvers<void>();

  readonly handlers = {
    data: (
      _socket: unknown,
      data: Buffer,
      port: number,
      address: string,
      flags: { truncated: boolean; ipv6: boolean },
    ): void => {
      this.mail.push({ data, port, address, ...flags });
      this.#look();
    },
    drain: (): void => {
      this.drains++;
      this.#drained.resolve();
      this.#drained = Promise.withResolvers<void>();
    },
    error: (_socket: unknown, error: Error): void => {
      this.errors.push(error);
      this.#look();
    },
  };

  #look(): void {
    this.#waiting = this.#waiting.filter(({ count, resolve, of }) => {
      if (of.length < count) return true;
      resolve();
      return false;
    });
  }

  get texts(): string[] {
    return this.mail.map(({ data }) => data.toString());
  }

  get drained(): Promise<void> {
    return this.#drained.promise;
  }

  async received(count: number): Promise<Mail[]> {
    await this.#until(count, this.mail);
    return this.mail;
  }

  async failed(count: number): Promise<Error[]> {
    await this.#until(count, this.errors);
    return this.errors;
  }

  async #until(count: number, of: unknown[]): Promise<void> {
    if (of.length >= count) return;
    await new Promise<void>((resolve) => this.#waiting.push({ count, resolve, of }));
  }
}

/** A datagram that says which one it is, and whose bytes follow from that. */
export function numbered(number: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i++) bytes[i] = (number * 31 + i * 7) & 255;
  if (size >= 4) bytes.writeUInt32BE(number, 0);
  return bytes;
}

/** The descriptor of this process' UDP/IPv4 socket bound to a port: /proc/net/udp. */
export function udpDescriptor(port: number): number {
  const rows = readFileSync("/proc/net/udp", "utf8").trimEnd().split("\n").slice(1);
  const row = rows.map((line) => line.trim().split(/\s+/)).find((columns) => {
    return Number.parseInt((columns[1] ?? "").split(":")[1] ?? "", 16) === port;
  });
  const link = `socket:[${row?.[9]}]`;
  const found = descriptors().find((descriptor) => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`) === link;
    } catch (error) {
      // The one that read the directory is gone by now.
      if ((error as { code?: string }).code === "ENOENT") return false;
      throw error;
    }
  });
  if (found === undefined) throw new Error(`no descriptor for port ${port}`);
  return found;
}
