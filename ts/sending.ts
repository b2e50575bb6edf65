// Sending: the writing half of a socket: `write` and `flush`. How it ends is in `closing.ts`.
//
// Bytes are the caller's again as soon as a call returns: the library has copied what it took, or
// the kernel has it. What is not taken is not kept either; `drain` says when to offer it again.

import { Buffer } from "node:buffer";
import { Connection } from "./connection.ts";
import { argumentError, checkInteger } from "./errors.ts";
import { byteLengthOf } from "./memory.ts";
import { native } from "./native.ts";

export abstract class Sending<Data> extends Connection<Data> {
  #bytesWritten = 0;

  /** Bytes that `write` and `end` took, and that sends and chains have sent. */
  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** @internal */
  wrote(bytes: number): void {
    this.#bytesWritten += bytes;
  }

  /**
   * Queues bytes and returns how many were taken; the bytes are the caller's again at once. Less
   * than offered means: wait for `drain`. -1 if the socket is closed or ending. send(2).
   */
  write(
    data: string | ArrayBufferView | ArrayBufferLike,
    byteOffset?: number,
    byteLength?: number,
  ): number {
    if (byteOffset === undefined && byteLength === undefined) {
      if (data instanceof Uint8Array) return this.offer(data);
      if (typeof data === "string") return this.#offerText(data);
    }
    return this.offer(this.bytesOf("write", data, byteOffset, byteLength));
  }

  /** Encoded straight into native memory: a Buffer in between would cost more than all the rest. */
  #offerText(text: string): number {
    if (this.stage === "ending" || this.stage === "closed") return -1;
    const { memory } = this.ring;
    const length = memory.encode(text);
    if (length < 0) return this.offer(Buffer.from(text));
    return length === 0 ? 0 : this.hand(memory.scratch, length);
  }

  /** The bytes taken; -1 if none can be any more. */
  protected offer(bytes: Uint8Array): number {
    const length = byteLengthOf("write", bytes);
    if (this.stage === "ending" || this.stage === "closed") return -1;
    if (length === 0) return 0;
    return this.hand(bytes, length);
  }

  /** The same whatever was said of the end. */
  protected hand(bytes: Uint8Array, length: number): number {
    const { handle, loop } = this.ring;
    const taken = native.bu_connection_write(handle, this.index, this.generation, bytes, length);
    if (taken < 0) return -1; // broken: `close` is on its way and says why
    this.wrote(taken);
    loop.touch();
    return taken;
  }

  protected bytesOf(
    operation: string,
    data: unknown,
    byteOffset: number | undefined,
    byteLength: number | undefined,
  ): Uint8Array {
    const bytes = viewOf(operation, data);
    if (byteOffset === undefined && byteLength === undefined) return bytes;
    if (typeof byteOffset === "string") {
      const expected = "a number; text goes as UTF-8, else pass Buffer.from(text, encoding)";
      throw argumentError(operation, "byteOffset", expected, byteOffset);
    }
    const start = checkInteger(operation, "byteOffset", byteOffset ?? 0, 0, bytes.byteLength);
    const most = bytes.byteLength - start;
    const length = checkInteger(operation, "byteLength", byteLength ?? most, 0, most);
    return bytes.subarray(start, start + length);
  }

  /** Hands queued bytes to the kernel now instead of at the end of the turn. */
  flush(): void {
    if (this.stage !== "closed") this.ring.submit();
  }
}

/** Any binary data as bytes. It is copied before the call returns, so it may well be resizable. */
export function viewOf(operation: string, data: unknown): Uint8Array {
  if (typeof data === "string") return Buffer.from(data);
  try {
    // Rebuilt from the memory itself: what a view says of its own bounds is checked by this.
    if (ArrayBuffer.isView(data)) {
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    }
    if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) {
      return new Uint8Array(data);
    }
  } catch (cause) {
    const error = argumentError(operation, "data", "memory that is still there", data);
    error.cause = cause;
    throw error;
  }
  throw argumentError(operation, "data", "a string, an ArrayBuffer or a view of one", data);
}
