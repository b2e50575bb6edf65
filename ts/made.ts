// Made: descriptors that an operation made and that nobody may ever take.
//
// A handle that is disposed of or collected unawaited leaves no descriptor open.

import { closeSync } from "node:fs";
import type { Engine } from "./engine.ts";
import { reportUncaught } from "./errors.ts";

/** Descriptors that an operation made, until somebody takes them. */
export interface Made {
  fds: readonly number[];
  taken: boolean;
  readonly engine: Engine;
}

export function reclaim(made: Made): void {
  if (made.taken) return;
  made.taken = true;
  made.engine.reclaimed += made.fds.length;
  for (const fd of made.fds) closeSync(fd);
}

/** Handles that were forgotten: the descriptor of nobody is closed when its handle is collected. */
export const forgotten = new FinalizationRegistry<Made>((made) => {
  try {
    reclaim(made);
  } catch (error) {
    reportUncaught(error);
  }
});
