// A Worker that stops the ring whose token it is sent, from its own thread: by the token's number,
// so that only the number has to travel.

import { Ring } from "../../../ts/index.ts";

declare const self: Worker;

self.onmessage = ({ data }: MessageEvent<number>) => {
  using poster = Ring.open(data);
  poster.stop();
};
self.postMessage("ready");
