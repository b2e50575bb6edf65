// A 10 ms timer for one second in a process that echoes as fast as it can: 64 connections to itself
// that never stop. Prints how often the timer ran, the median distance and the messages echoed.

import { connect, listen, type Socket } from "../../../ts/index.ts";

let messages = 0;
let running = true;

const echo = (socket: Socket, chunk: Buffer) => {
  messages++;
  if (running) socket.write(chunk);
  else socket.terminate();
};
const listener = listen({ hostname: "127.0.0.1", port: 0, socket: { data: echo } });
const place = { hostname: "127.0.0.1", port: listener.port, socket: { data: echo } };
const clients = await Promise.all(Array.from({ length: 64 }, () => connect(place)));
for (const client of clients) client.write(Buffer.alloc(512));

const distances: number[] = [];
let last = performance.now();
const until = last + 1000;
const timer = setInterval(() => {
  const now = performance.now();
  distances.push(now - last);
  last = now;
  if (now < until) return;
  clearInterval(timer);
  running = false;
  listener.stop(true);
  distances.sort((a, b) => a - b);
  const medianMs = distances[distances.length >> 1] ?? Number.POSITIVE_INFINITY;
  console.log(JSON.stringify({ ticks: distances.length, medianMs, messages }));
}, 10);
