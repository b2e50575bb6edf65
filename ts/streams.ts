// Web streams over a socket: bytes in, bytes out, with back-pressure both ways.
//
// `readable` takes from the inbox only what it is asked for. `writable` finishes a write when the
// library has taken all of it. They know the socket through `Source` and `Sink` alone.

import type { Next } from "./inbox.ts";

/** What `write` takes. */
export type Writable = string | ArrayBufferView | ArrayBufferLike;

/** What `readable` reads from. */
export interface Source {
  next(): Promise<Next>;
  /** The reader lost interest. */
  cancel(): void;
}

/** A byte stream: ends with the peer's FIN, errors with what broke the connection. */
export function readableOf(source: Source): ReadableStream<Uint8Array<ArrayBuffer>> {
  const bytes = {
    type: "bytes" as const,
    async pull(controller: ReadableByteStreamController) {
      const { value } = await source.next(); // a rejection errors the stream
      if (value !== undefined) {
        controller.enqueue(value);
        return;
      }
      controller.close();
      controller.byobRequest?.respond(0); // a read into a buffer waits: it ends, too
    },
    cancel: () => source.cancel(),
  };
  // The inbox is the queue: this one holds nothing.
  return new ReadableStream(bytes, { highWaterMark: 0 });
}

/** What `writable` writes to. */
export interface Sink {
  /** Resolves when all of it is taken; rejects when the socket takes no more. */
  write(chunk: unknown): Promise<void> | void;
  end(): void;
  terminate(): void;
  /** Calls `tell` when the connection is gone. */
  onGone(tell: (error: Error) => void): void;
}

/** `close` sends FIN behind what was written, `abort` resets the connection. */
export function writableOf(sink: Sink): WritableStream<Writable> {
  return new WritableStream({
    start: (controller) => sink.onGone((error) => controller.error(error)),
    write: (chunk) => sink.write(chunk),
    close: () => sink.end(),
    abort: () => sink.terminate(),
  });
}
