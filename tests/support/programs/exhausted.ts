// Uses up the process' descriptors and lets the ring sleep then: for the first time, or again after
// nothing had kept it awake. Prints what still arrived from a client that only Bun's loop knows.

import { openSync } from "node:fs";
import { listen, type Socket } from "../../../ts/index.ts";
import { End } from "../pair.ts";
import { turns } from "../until.ts";

/** More than the ring spins before it sleeps. */
const ASLEEP = 60;

const end = new End();
const accepted = Promise.withResolvers<Socket>();
const listener = listen({
  hostname: "127.0.0.1",
  port: 0,
  socket: { ...end.handlers, open: accepted.resolve },
});
const client = await Bun.connect({
  hostname: "127.0.0.1",
  port: listener.port,
  socket: { data() {} },
});
const server = await accepted.promise;
if (process.argv[2] === "later sleep") {
  await turns(ASLEEP);
  for (const one of [server, listener]) one.unref();
  await turns(ASLEEP);
}

try {
  for (;;) openSync("/dev/null", "r");
} catch (error) {
  if ((error as { code?: string }).code !== "EMFILE") throw error;
}
for (const one of [server, listener]) one.ref();
const texts: string[] = [];
for (const text of ["one", "two"]) {
  await turns(ASLEEP);
  client.write(text);
  texts.push((await end.received(3 * (texts.length + 1))).subarray(-3).toString());
}
console.log(JSON.stringify(texts));
process.exit(0);
