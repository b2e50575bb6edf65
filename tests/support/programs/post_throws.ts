// Handlers of posts that throw and reject: prints what was handled, what was told, and the errors
// that reached the process.

import { Ring } from "../../../ts/index.ts";
import { turns } from "../until.ts";

const errors: string[] = [];
process.on("uncaughtException", (error: Error) => void errors.push(error.message));
process.on("unhandledRejection", (error: Error) => void errors.push(error.message));

const ring = new Ring();
const told: number[] = [];
ring.onPost(1, (data: number) => {
  told.push(data);
  if (data === 0) throw new Error("thrown 0");
  return data === 1 ? Promise.reject(new Error("rejected 1")) : undefined;
});
for (let i = 0; i < 4; i++) ring.post(1, i);
const handled = ring.poll();
await turns(3);
console.log(JSON.stringify({ handled, told, errors }));
await ring.close();
