// Closing: the ways in which a socket ends: `end`, `shutdown`, `close`, `terminate`.
//
// They only mark; the work is native (connection.zig) and starts after the dispatch, so `close` is
// never called inside one of them.

import { Shut } from "./abi.ts";
import { checkBoolean } from "./errors.ts";
import { native } from "./native.ts";
import { Sending } from "./sending.ts";

export abstract class Closing<Data> extends Sending<Data> implements Disposable {
  /**
   * Sends what is queued, then FIN. Data goes on arriving until the peer ends its side too; then
   * the socket closes by itself. Returns the bytes taken of `data`; the rest of it would be lost,
   * so a large last piece is written first, with `drain`.
   */
  end(
    data?: string | ArrayBufferView | ArrayBufferLike,
    byteOffset?: number,
    byteLength?: number,
  ): number {
    let taken = 0;
    if (data !== undefined) {
      taken = this.offer(this.bytesOf("end", data, byteOffset, byteLength));
    }
    if (this.stage === "closed" || this.stage === "ending") return data === undefined ? 0 : -1;
    this.stage = "ending";
    this.#shut(Shut.end);
    return taken;
  }

  /** Ends the writing side (`true`), or both sides without waiting for the peer. shutdown(2). */
  shutdown(halfClose = false): void {
    checkBoolean("shutdown", "halfClose", halfClose);
    if (halfClose) this.end();
    else this.close();
  }

  /** Sends what is queued, then closes without waiting for the peer's FIN. */
  close(): void {
    if (this.stage === "closed") return;
    this.stage = "ending";
    this.#shut(Shut.close);
  }

  /** Drops what is queued and resets the connection (RST). */
  terminate(): void {
    if (this.stage === "closed") return;
    this.stage = "ending";
    this.#shut(Shut.terminate);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #shut(how: Shut): void {
    native.bu_connection_shut(this.ring.handle, this.index, this.generation, how, 0);
    this.ring.loop.touch();
  }
}
