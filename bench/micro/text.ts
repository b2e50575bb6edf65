// The price of text on its way to the library: encoded into native memory, or through a Buffer.
//
// The call names no connection, so the native half answers from its first guards: what is left is
// encoding and crossing. Usage: `bun bench/micro/text.ts`, after `npm run build`.
import { bench, do_not_optimize, run } from "mitata";
import { Ring } from "../../ts/index.ts";
import { native } from "../../ts/native.ts";

await using ring = new Ring();
const { handle, memory } = ring;
const hand = (bytes: Uint8Array, length: number): number =>
  native.bu_connection_write(handle, 0, 0, bytes, length);

for (const length of [8, 64, 512, 4096]) {
  const texts = Array.from({ length: 64 }, (_, i) => "x".repeat(length - 1) + (i % 10));
  let next = 0;
  const text = (): string => texts[next++ & 63] as string;
  bench(`${length} characters in native memory`, () => {
    do_not_optimize(hand(memory.scratch, memory.encode(text())));
  });
  bench(`${length} characters through a Buffer`, () => {
    const bytes = Buffer.from(text());
    do_not_optimize(hand(bytes, bytes.length));
  });
}

await run();
