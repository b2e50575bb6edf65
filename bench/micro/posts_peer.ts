// The other end of posts.ts: a Worker that answers each post with the same, or each message where
// it is given no token.
import { Ring } from "../../ts/index.ts";

declare const self: Worker;

export interface Peer {
  token: number;
  bell: "doorbell" | "messages";
  blocked: boolean;
}

self.onmessage = ({ data: { token, bell, blocked } }: MessageEvent<Peer>) => {
  if (token === 0) {
    self.onmessage = ({ data }: MessageEvent<number>) => self.postMessage(data);
    self.postMessage(0);
    return;
  }
  const ring = new Ring({ disable: bell === "messages" ? ["doorbell"] : [] });
  const poster = Ring.open(token);
  ring.onPost(1, (data: number) => poster.post(1, data));
  self.postMessage(ring.token.id);
  // For ever: the Worker is terminated.
  if (blocked) for (;;) ring.waitSync();
};
