// What a token does to the life of its process: takes the steps that its arguments name. One that
// stays although nothing else is open ends itself with 3.

import { Ring } from "../../../ts/index.ts";

const ring = new Ring();

for (const step of process.argv.slice(2)) {
  if (step === "token") void ring.token;
  if (step === "unref") ring.token.unref();
  if (step === "ref") ring.token.ref();
  if (step === "close") await ring.close();
  if (step === "post") {
    const arrived: number[] = [];
    ring.onPost(1, (data: number) => {
      arrived.push(data);
      if (arrived.length === 3000) console.log(arrived.join());
    });
    for (let i = 0; i < 3000; i++) ring.post(1, i);
  }
}

setInterval(() => process.exit(3), 700).unref();
