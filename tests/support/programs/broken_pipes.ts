// Bulk that is piped to peers which go away, in a process whose SIGPIPE is at its default, which
// ends it: Bun ignores the signal until the last listener for it is taken away. Prints the codes
// with which the pipes rejected.

import { Ring } from "../../../ts/index.ts";
import { line } from "../line.ts";
import { rejected } from "../operations.ts";
import { turns } from "../until.ts";

const listener = () => {};
process.on("SIGPIPE", listener);
process.off("SIGPIPE", listener);

const codes: string[] = [];
await using ring = new Ring({ spliceThreshold: 1 });
for (const unix of [false, true]) {
  for (let i = 0; i < 10; i++) {
    using from = await line(ring, {}, unix);
    using to = await line(ring, {}, unix);
    const piped = from.socket.pipeTo(to.socket);
    from.peer.on("error", () => {}); // its socket is closed under it
    to.peer.pause();
    from.peer.write(Buffer.alloc(4 << 20));
    await turns(i * 5);
    to.peer.destroy();
    codes.push((await rejected(piped)).code);
  }
}
console.log(JSON.stringify({ codes }));
