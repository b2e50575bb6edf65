// The program of a Worker that `offload` gives jobs to: runs one and posts its outcome.
//
// The outcome goes through the ring's mailbox, so that it arrives in a turn like any completion,
// also in one of a thread that is blocked. A mailbox that is full is tried again; a ring that is
// gone wants no outcome.

import { deserialize, serialize } from "bun:jsc";
import { ERRNO } from "./abi.ts";
import { NativeBlock } from "./block.ts";
import { describeError } from "./described_error.ts";
import { native } from "./native.ts";
import type { Order, Outcome } from "./offload.ts";
import { importFunction } from "./worker_module.ts";

declare const self: Worker;

type Run = (...args: unknown[]) => unknown;

/** Functions by their source: a program offloads few. */
const compiled = new Map<string, Run>();
const COMPILED_MAX = 256;
/** Between two tries to post, milliseconds. */
const RETRY_MS = 1;

self.onmessage = async ({ data: order }: MessageEvent<Order>) => {
  deliver(order, await perform(order));
};

async function perform(order: Order): Promise<Uint8Array> {
  try {
    const run = await find(order);
    const value = await run(...(deserialize(order.input) as unknown[]));
    return pack({ value });
  } catch (error) {
    return packFailure(error);
  }
}

function find({ source, module }: Order): Run | Promise<Run> {
  if (source === null) return importFunction("offload", module as string) as Promise<Run>;
  let run = compiled.get(source);
  if (run === undefined) {
    run = (0, eval)(`(${source}\n)`) as Run;
    if (compiled.size === COMPILED_MAX) compiled.clear();
    compiled.set(source, run);
  }
  return run;
}

function pack(outcome: Outcome): Uint8Array {
  return new Uint8Array(serialize(outcome));
}

function packFailure(thrown: unknown): Uint8Array {
  try {
    return pack(thrown instanceof Error ? { error: describeError(thrown) } : { thrown });
  } catch {
    // What it threw cannot be cloned: at least its text can.
    return pack({ error: describeError(String(thrown)) });
  }
}

function deliver(order: Order, outcome: Uint8Array): void {
  const block = new NativeBlock(outcome);
  const attempt = (): void => {
    const { token, index, generation } = order;
    const result = block.hand("offload", (address) => {
      return native.bu_offload_done(token, index, generation, address);
    });
    if (result >= 0) return;
    if (result === -ERRNO.EAGAIN) setTimeout(attempt, RETRY_MS);
    else block[Symbol.dispose]();
  };
  attempt();
}
