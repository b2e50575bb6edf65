// Opens connections and does nothing with them until it is killed.
//
// Usage: `bun idle_clients.ts PORT COUNT`. Prints `listening COUNT` when all are open.
import { connect, Ring } from "bun-uring";

const [port, count] = process.argv.slice(2).map(Number) as [number, number];
const ring = new Ring({ connections: count + 500 });
for (let open = 0; open < count; open += 250) {
  const batch = Math.min(250, count - open);
  // From one address to another there are 28 000 ports, and the last ones are long looked for.
  const hostname = `127.0.0.${1 + (open / 250) % 8}`;
  const one = () => connect({ hostname, port, ring, socket: {} });
  await Promise.all(Array.from({ length: batch }, one));
}
console.log(`listening ${count}`);
