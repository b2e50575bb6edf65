// What is received on a datagram socket: records taken apart, senders named, handlers called.
//
// One record can hold several datagrams of one sender, all of one size but the last. The sender's
// address is text only once: IPv4 addresses are kept by their number, any other sender as long as
// he is the last one.

import { Buffer } from "node:buffer";
import { DatagramFlag } from "./abi.ts";
import type { DatagramReceiver, HandlerResult } from "./completion.ts";
import type { DatagramHandlers, DatagramType, ReceiveFlags } from "./datagram_options.ts";
import { reportUncaught, resultError } from "./errors.ts";
import { readAddress } from "./memory.ts";
import { native } from "./native.ts";
import type { Ring } from "./ring.ts";

/** Texts of IPv4 addresses by their number; forgotten all at once when there are too many. */
const texts = new Map<number, string>();
const TEXTS_MAX = 8192;

function textOfIpv4(number: number): string {
  const known = texts.get(number);
  if (known !== undefined) return known;
  if (texts.size === TEXTS_MAX) texts.clear();
  const text = [number >>> 24, number >>> 16, number >>> 8, number].map((n) => n & 255).join(".");
  texts.set(number, text);
  return text;
}

export abstract class DatagramRecords implements DatagramReceiver {
  /** @internal */ readonly generation: number;
  protected readonly engine: Ring;
  protected readonly index: number;
  protected handlers: DatagramHandlers;
  protected readonly type: DatagramType;
  protected ended = false;
  /** Set by `close`. */
  #leaving: PromiseWithResolvers<void> | null = null;
  /** The last sender, as in his record and by his name. */
  #sender = -1;
  #host = "";
  #port = 0;

  constructor(ring: Ring, index: number, handlers: DatagramHandlers, type: DatagramType) {
    this.engine = ring;
    this.index = index;
    this.generation = ring.claimedGeneration();
    this.handlers = handlers;
    this.type = type;
  }

  /** @internal `extra` and `sender` (`data`) as in a record. */
  onDatagrams(offset: number, length: number, extra: number, sender: number): void {
    if (this.ended || this.handlers.data === undefined) return;
    const buffer = extra & 0xff;
    const flags = (extra >>> 8) & 0xff;
    const truncated = (flags & (1 << DatagramFlag.truncated)) !== 0;
    const ipv6 = (flags & (1 << DatagramFlag.ipv6)) !== 0;
    if (sender !== this.#sender) {
      if ((flags & (1 << DatagramFlag.ipv4)) !== 0) {
        const address = Math.floor(sender / 65536);
        this.#host = textOfIpv4(address);
        this.#port = sender - address * 65536;
      } else {
        this.#lookUp(buffer);
      }
      this.#sender = sender;
    }
    // A handler may open the way for another sender: not to be read again afterwards.
    const host = this.#host;
    const port = this.#port;
    const segment = extra >>> 16;
    if (segment === 0) {
      this.#deliver(buffer, offset, length, port, host, { truncated, ipv6 });
      return;
    }
    for (let at = 0; at < length && !this.ended; at += segment) {
      const size = Math.min(segment, length - at);
      this.#deliver(buffer, offset + at, size, port, host, { truncated, ipv6 });
    }
  }

  #lookUp(buffer: number): void {
    const { handle } = this.engine;
    const address = readAddress((out) =>
      native.bu_datagram_sender(handle, this.index, this.generation, buffer, out),
    );
    this.#host = address?.host ?? "";
    this.#port = address?.port ?? 0;
  }

  #deliver(
    buffer: number,
    offset: number,
    length: number,
    port: number,
    host: string,
    flags: ReceiveFlags,
  ): void {
    const { data } = this.handlers; // `reload` may have changed it between two of them
    if (data === undefined) return;
    const plain = this.type === "buffer";
    const bytes = plain ? Buffer.allocUnsafe(length) : new Uint8Array(length);
    if (length > 0) {
      native.bu_datagram_read(this.engine.handle, buffer, offset, bytes, length);
    }
    const chunk = this.type === "arraybuffer" ? bytes.buffer : bytes;
    try {
      this.#watch(data(this, chunk, port, host, flags));
    } catch (error) {
      this.#onThrown(error);
    }
  }

  /** @internal */
  onDrain(): void {
    if (this.ended) return;
    try {
      this.#watch(this.handlers.drain?.(this));
    } catch (error) {
      this.#onThrown(error);
    }
  }

  /** @internal An answer of the network, or why it ended by itself. */
  onError(result: number): void {
    if (this.handlers.error === undefined) return;
    this.#tell(resultError(result, "udpSocket", this.subject(), "completion"));
  }

  protected abstract subject(): string;
  abstract onClosed(result: number): void;

  /** @internal */
  get left(): Promise<void> | null {
    return this.#leaving?.promise ?? null;
  }

  protected leave(): void {
    this.ended = true;
    this.#leaving ??= Promise.withResolvers<void>();
  }

  protected hasLeft(): void {
    this.leave();
    this.#leaving?.resolve();
  }

  /** Of a promise, the rejection is the handler's failure. */
  #watch(outcome: HandlerResult): void {
    if (typeof outcome !== "object" || outcome === null) return;
    const { then } = outcome as Partial<PromiseLike<unknown>>;
    if (typeof then !== "function") return;
    then.call(outcome, undefined, (error: unknown) => this.#onThrown(error));
  }

  #onThrown(thrown: unknown): void {
    if (this.handlers.error === undefined) return reportUncaught(thrown);
    this.#tell(thrown instanceof Error ? thrown : new Error(String(thrown), { cause: thrown }));
  }

  #tell(error: Error): void {
    try {
      const outcome: unknown = this.handlers.error?.(this, error);
      if (outcome instanceof Promise) outcome.catch(reportUncaught);
    } catch (second) {
      reportUncaught(second);
    }
  }
}
