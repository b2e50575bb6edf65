// A Worker that posts numbers and blocks without end, until it is terminated in the middle of it;
// or that has a ring itself, which others post to. Full mailboxes make it try again.

import { NativeBlock, Ring, type Token, type UringError } from "../../../ts/index.ts";

declare const self: Worker;

export interface Endless {
  /** To post to; without it the Worker's own ring is the target, whose token it tells. */
  token?: Pick<Token, "id">;
  key: number;
}

self.onmessage = ({ data: { token, key } }: MessageEvent<Endless>) => {
  if (token === undefined) receive();
  else post(token, key);
};

function post(token: Pick<Token, "id">, key: number): void {
  const poster = Ring.open(token);
  for (let i = 0; ; i++) {
    const data = i % 50 === 49 ? new NativeBlock(Buffer.from(`${i}`)) : i;
    for (let tries = 0; ; tries++) {
      try {
        poster.post(key, data);
        break;
      } catch (error) {
        if ((error as UringError).code !== "EAGAIN") throw error;
      }
    }
  }
}

function receive(): void {
  const ring = new Ring({ entries: 8 });
  const kept: unknown[] = [];
  ring.onPost([0, 9], (data) => {
    kept[kept.length % 100] = data;
    if (kept.length === 0) kept.push(data);
  });
  self.postMessage({ id: ring.token.id });
}
