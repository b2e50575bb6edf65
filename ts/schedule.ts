// schedule(): a turn of the ring to continue in.
//
// A NOP through the ring, whose handle keeps its word when it is cancelled: it never resolves then,
// though a NOP has done all that it can do as soon as the kernel sees it. A stop leaves it pending
// for the next turn; the end of the ring cancels it like every operation.

import { ERRNO, OperationKind } from "./abi.ts";
import type { Engine } from "./engine.ts";
import { argumentError, submissionError } from "./errors.ts";
import { native } from "./native.ts";
import { Operation, type Cargo } from "./operation.ts";

export interface ScheduleOptions {
  /** Cancels it; one that is aborted already schedules nothing. */
  signal?: AbortSignal | undefined;
}

/** It brings nothing but the turn. */
const NOTHING: Cargo<void> = {
  input: null,
  buffer: undefined,
  board() {},
  orphan() {},
  land: (_engine, _index, result) => result,
  value: () => undefined,
  detail: () => undefined,
};

class Scheduled extends Operation<void> {
  override get kind(): string {
    return "schedule";
  }

  /** @internal */
  override onCompletion(result: number, more: boolean): void {
    super.onCompletion(this.asked ? -ERRNO.ECANCELED : result, more);
  }
}

export function schedule(engine: Engine, options: ScheduleOptions): Operation<void> {
  engine.assertOpen("schedule");
  const { signal } = checkOptions(options);
  const aborted = signal?.aborted === true;
  const index = aborted ? -1 : native.bu_nop(engine.handle);
  if (index < 0 && !aborted) throw submissionError(index, "schedule", -1);
  const scheduled = new Scheduled(engine, index, OperationKind.nop, -1, NOTHING, undefined);
  scheduled.accompany(signal, undefined);
  return aborted ? scheduled.stillborn(-ERRNO.ECANCELED) : scheduled;
}

function checkOptions(options: unknown): ScheduleOptions {
  if (typeof options !== "object" || options === null) {
    throw argumentError("schedule", "options", "an object", options);
  }
  const { signal } = options as ScheduleOptions;
  if (signal === undefined || signal instanceof AbortSignal) return { signal };
  throw argumentError("schedule", "signal", "an AbortSignal", signal);
}
