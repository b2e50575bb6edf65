// Prints the features of a ring, after an echo of one byte over it.
// What is masked is in the environment.

import { Ring } from "../../../ts/index.ts";
import { pair } from "../pair.ts";

using both = await pair();
both.client.write("x");
await both.atServer.received(1);
console.log(JSON.stringify([...Ring.default.features]));
