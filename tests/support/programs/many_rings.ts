// Five hundred rings, one after the other, used and closed; every tenth with things still open.
// Prints what the process holds before and after.

import { Ring } from "../../../ts/index.ts";
import { descriptors, mappingCount, ringBytes } from "../descriptors.ts";
import { pair } from "../pair.ts";
import { turns } from "../until.ts";

async function use(index: number): Promise<void> {
  const ring = new Ring({ entries: 64, receiveBuffers: 8, connections: 16, stagingBlocks: 64 });
  if (index % 10 === 0) {
    const both = await pair({ ring });
    both.client.write("x");
    await both.atServer.received(1);
    both.listener.stop();
  }
  await ring.close();
}

async function held() {
  for (let i = 0; i < 3; i++) {
    Bun.gc(true);
    await turns(3);
  }
  const [open, maps, bytes] = [descriptors().length, mappingCount(), ringBytes()];
  return { descriptors: open, mappings: maps, bytes };
}

for (let i = 0; i < 50; i++) await use(i);
const before = await held();
for (let i = 0; i < 500; i++) await use(i);
console.log(JSON.stringify({ before, after: await held() }));
