// The price of one crossing: a direct FFI call without, with few and with many arguments.
//
// The calls name a ring that is not open, so the native half answers from its first guard: what is
// left is the crossing itself. Usage: `bun bench/micro/ffi.ts`, after `npm run build`.
import { bench, do_not_optimize, run } from "mitata";
import { native } from "../../ts/native.ts";

const noRing = 0xffff_ffff;
const bytes = new Uint8Array(64);

if (native.bu_nop(noRing) >= 0) throw new Error("a ring that is not open took an operation");

bench("an empty function of JavaScript", () => do_not_optimize(bytes.length));
bench("no argument", () => do_not_optimize(native.bu_abi_hash()));
bench("one number", () => do_not_optimize(native.bu_nop(noRing)));
bench("four numbers", () => do_not_optimize(native.bu_connection_pause(noRing, 0, 0, 0)));
bench("four numbers and a typed array", () =>
  do_not_optimize(native.bu_connection_write(noRing, 0, 0, bytes, bytes.length)),
);

await run();
