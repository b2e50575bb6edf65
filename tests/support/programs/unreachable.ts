// Two connects that nobody answers: one with a `connectError` handler and nobody awaiting it, one
// without. Prints how many unhandled rejections the process heard of after each.

import { connect } from "../../../ts/index.ts";
import { turns } from "../until.ts";

let unhandled = 0;
process.on("unhandledRejection", () => void unhandled++);

using free = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
const { port } = free;
free.stop(true);

const told = Promise.withResolvers<void>();
void connect({ hostname: "127.0.0.1", port, socket: { connectError: () => told.resolve() } });
await told.promise;
await turns(10);
const handled = unhandled;

void connect({ hostname: "127.0.0.1", port, socket: {} });
while (unhandled === handled) await turns(1);
console.log(JSON.stringify({ handled, unhandled }));
