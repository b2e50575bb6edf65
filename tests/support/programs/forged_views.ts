// Writes views whose `byteLength` or `length` lies, from few bytes of memory. Whatever happens,
// no byte beyond the real end may leave the process; prints how many arrived that should not have.

import { pair } from "../pair.ts";
import { turns } from "../until.ts";

class Forged extends Uint8Array {
  override get byteLength(): number {
    return 1 << 28;
  }

  override get length(): number {
    return 1 << 28;
  }
}

const own = Object.defineProperty(new Uint8Array(4), "byteLength", { value: 1 << 28 });
const buffer = Object.defineProperty(Buffer.from("real"), "length", { value: 1 << 28 });
const retyped = Object.setPrototypeOf(new Uint8Array(4), Forged.prototype) as Uint8Array;

let allowed = 0;
using both = await pair();
for (const forged of [new Forged(4), own, buffer, retyped]) {
  for (let i = 0; i < 20; i++) {
    try {
      allowed += Math.min(4, Math.max(0, both.client.write(forged)));
      allowed += Math.min(4, Math.max(0, both.client.write(forged, 0)));
    } catch (error) {
      // A refusal is as good as writing the four real bytes.
      if ((error as { code?: string }).code !== "EINVAL") throw error;
    }
  }
}
await both.atServer.received(Math.min(1, allowed));
await turns(200);
console.log(JSON.stringify({ received: Math.max(0, both.atServer.length - allowed) }));
process.exit(0);
