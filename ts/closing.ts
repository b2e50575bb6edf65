// Closing: the ways in which a socket ends: `end`, `shutdown`, `close`, `terminate`, a time-out.
//
// They only mark; the work is native (connection.zig) and starts after the dispatch, so no handler
// is called inside one of them. What `end` was given and the library could not take yet is kept
// here and goes before the FIN.

import { Shut } from "./abi.ts";
import type { HandlerResult } from "./completion.ts";
import { argumentError, checkBoolean, UringError } from "./errors.ts";
import { Lending } from "./lending.ts";
import { native } from "./native.ts";

/** Seconds that a 32-bit number of milliseconds holds: 49 days. */
const TIMEOUT_MAX_S = 0xffff_ffff / 1000;

export abstract class Closing<Data> extends Lending<Data> implements Disposable, AsyncDisposable {
  /** The rest of the last bytes, and what comes after them. */
  #rest: Uint8Array | null = null;
  #next: typeof Shut.end | typeof Shut.close = Shut.end;
  /** How often a time-out was set: a record of an earlier setting is out of date. */
  #setting = 0;

  /**
   * Sends what is queued and `data`, then FIN. All of `data` is taken, whatever its size: what does
   * not fit now is copied and leaves before the FIN. Bytes go on arriving until the peer ends its
   * side too; then the socket closes by itself. Returns the bytes of `data`, -1 if the socket is
   * closed or ending already.
   */
  end(
    data?: string | ArrayBufferView | ArrayBufferLike,
    byteOffset?: number,
    byteLength?: number,
  ): number {
    const bytes = data === undefined ? null : this.bytesOf("end", data, byteOffset, byteLength);
    if (this.stage === "closed" || this.stage === "ending") return bytes === null ? 0 : -1;
    if (bytes === null) {
      this.#end(Shut.end);
      return 0;
    }
    const length = bytes.byteLength;
    const taken = this.offer(bytes);
    if (taken < 0) return -1; // broken: `close` is on its way and says why
    if (taken < length) {
      this.#rest = bytes.slice(taken);
      this.#next = Shut.end;
      this.stage = "ending";
    } else {
      this.#end(Shut.end);
    }
    return length;
  }

  /**
   * Without an argument ends the writing side, as `end` does. With `true` ends the reading side:
   * what has arrived is delivered, then `end` is called. shutdown(2)
   */
  shutdown(halfClose = false): void {
    checkBoolean("shutdown", "halfClose", halfClose);
    if (!halfClose) this.end();
    else if (this.stage !== "closed") this.#shut(Shut.receiving, 0);
  }

  /**
   * Sends what is queued, then closes without waiting for the peer's FIN: nothing is received any
   * more. Bounded by `closeTimeout`.
   */
  close(): void {
    if (this.stage === "closed") return;
    if (this.#rest === null) return this.#end(Shut.close);
    if (this.#next === Shut.close) return;
    this.#next = Shut.close;
    this.#setTimeout(this.handlers.closeTimeout);
  }

  /** Drops what is queued and resets the connection (RST). */
  terminate(): void {
    if (this.stage === "closed") return;
    this.#rest = null;
    this.stage = "ending";
    this.#shut(Shut.terminate, 0);
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** As `close`, and resolves when the connection is gone. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return new Promise((resolve) => this.whenGone(() => resolve()));
  }

  #end(how: typeof Shut.end | typeof Shut.close): void {
    this.stage = "ending";
    this.#shut(how, this.handlers.closeTimeout);
  }

  #shut(how: Shut, lingerMs: number): void {
    const { handle, loop } = this.ring;
    native.bu_connection_shut(handle, this.index, this.generation, how, lingerMs);
    loop.touch();
  }

  // Time-outs ----------------------------------------------------------------------------------

  /**
   * Calls `timeout` when `seconds` have passed, once; without such a handler the connection is
   * reset and closes with "ETIMEDOUT". Calling it again starts anew, 0 lifts it; data does not.
   * Rounded up by an eighth, a second at most.
   */
  timeout(seconds: number): void {
    if (typeof seconds !== "number" || !(seconds >= 0 && seconds <= TIMEOUT_MAX_S)) {
      const expected = `seconds from 0 to ${Math.floor(TIMEOUT_MAX_S)}`;
      throw argumentError("timeout", "seconds", expected, seconds);
    }
    if (this.#rest === null || this.#next === Shut.end) this.#setTimeout(Math.ceil(seconds * 1000));
  }

  #setTimeout(milliseconds: number): void {
    if (this.stage === "closed") return;
    const { handle, loop } = this.ring;
    const { index, generation } = this;
    const outcome = native.bu_connection_timeout(handle, index, generation, milliseconds);
    if (outcome < 0) return; // its descriptor is being closed already
    this.#setting = (this.#setting + 1) >>> 0;
    loop.touch();
  }

  /** @internal */
  onTimeout(setting: number): HandlerResult {
    if (setting !== this.#setting || this.stage === "closed") return undefined;
    const { timeout } = this.handlers;
    const lingers = this.#rest !== null && this.#next === Shut.close;
    if (!lingers && timeout !== undefined) return timeout(this);
    const what = lingers ? "what was queued did not leave in time" : "its time-out has passed";
    this.reason = new UringError("ETIMEDOUT", "socket", `socket: ${what}`, "completion");
    this.reason.name = "TimeoutError";
    this.terminate();
    return undefined;
  }

  // The last bytes -----------------------------------------------------------------------------

  /** @internal */
  override onDrain(): HandlerResult {
    if (this.#rest === null) return super.onDrain();
    const taken = this.hand(this.#rest, this.#rest.byteLength);
    if (taken < 0) {
      this.#rest = null; // broken: `close` says why
      this.#end(this.#next);
    } else if (taken < this.#rest.byteLength) {
      this.#rest = this.#rest.subarray(taken);
    } else {
      this.#rest = null;
      this.#end(this.#next);
    }
    return undefined;
  }
}
