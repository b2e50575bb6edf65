// Timers: how a wait for the clock is started.
//
// The library keeps all timers behind one time-out of the kernel's, so that starting and cancelling
// one is no system call. A time-out inside a batch is the kernel's own, see `operation/timer.ts`.

import { ERRNO, OperationKind, TimerFlag } from "./abi.ts";
import type { Engine } from "./engine.ts";
import { argumentError, submissionError } from "./errors.ts";
import { expired } from "./mapped.ts";
import { native } from "./native.ts";
import {
  Operation,
  readOptions,
  type Callback,
  type OperationOptions,
} from "./operation.ts";

/** A moment instead of a duration. */
export interface Deadline {
  /**
   * A number is a time of `performance.now()`, which nobody sets. A Date is the wall clock's, as it
   * goes when the timer is started: setting the clock afterwards moves nothing.
   */
  at: number | Date;
}

/** The longest duration, about 24 days, milliseconds. */
export const DURATION_MAX_MS = 2_147_483_647;

/** When performance.now() was 0 on the library's clock; looked for at first use. */
let eraMs: number | undefined;
const ERA_LOOKS = 8;

/** A repeating one, by its own name. */
class Beats<T> extends Operation<T> {
  override get kind(): string {
    return "interval";
  }
}

/** A time-out after so many milliseconds, or at a moment. */
export function startTimeout(
  engine: Engine,
  when: number | Deadline,
  options: OperationOptions,
  callback: Callback<never> | undefined,
): Operation {
  if (typeof when === "number") {
    return start(engine, "timeout", checkDuration("timeout", when, 0), 0, options, callback);
  }
  const milliseconds = momentOf(when);
  return start(engine, "timeout", milliseconds, 1 << TimerFlag.absolute, options, callback);
}

/** A beat each so many milliseconds: the callback gets how many there were since the last one. */
export function startBeats(
  engine: Engine,
  period: number,
  options: OperationOptions,
  callback: Callback<never>,
): Operation {
  checkDuration("interval", period, 1);
  return start(engine, "interval", period, 1 << TimerFlag.repeating, options, callback);
}

export function checkDuration(operation: string, milliseconds: unknown, least: number): number {
  const isDuration = typeof milliseconds === "number" && milliseconds >= least &&
    milliseconds <= DURATION_MAX_MS;
  if (isDuration) return milliseconds;
  const expected = `a number from ${least} to ${DURATION_MAX_MS}`;
  throw argumentError(operation, "milliseconds", expected, milliseconds);
}

function start(
  engine: Engine,
  name: "timeout" | "interval",
  milliseconds: number,
  flags: number,
  options: OperationOptions,
  callback: Callback<never> | undefined,
): Operation {
  const { signal, timeout } = readOptions(name, options);
  const Handle = name === "interval" ? Beats : Operation;
  const make = (index: number) => {
    return new Handle<number>(engine, index, OperationKind.timeout, -1, expired, callback);
  };
  if (signal?.aborted) {
    const still = make(-1);
    still.accompany(signal, timeout);
    return still.stillborn(-ERRNO.ECANCELED);
  }
  const index = native.bu_timer_start(engine.handle, milliseconds, timeout ?? -1, flags);
  if (index < 0) {
    engine.assertOpen(name);
    throw submissionError(index, name, -1);
  }
  const timer = make(index);
  timer.accompany(signal, timeout);
  return timer;
}

/** The library's clock at that moment. */
function momentOf(when: unknown): number {
  const expected = `milliseconds or { at } with a time of performance.now() or a Date, at most ` +
    `${DURATION_MAX_MS} ms ahead`;
  const at = typeof when === "object" && when !== null ? (when as Deadline).at : undefined;
  const now = performance.now();
  const moment = at instanceof Date ? now + (at.getTime() - Date.now()) : at;
  if (typeof moment !== "number" || !(moment > -Infinity && moment <= now + DURATION_MAX_MS)) {
    throw argumentError("timeout", "the time", expected, at ?? when);
  }
  eraMs ??= era();
  return Math.max(moment + eraMs, 0);
}

/** Looked for more than once, as there may be a pause between the two clocks. */
function era(): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ERA_LOOKS; i++) {
    const before = performance.now(); // first, so that a timer is late rather than early
    least = Math.min(least, native.bu_clock_read() - before);
  }
  return least;
}
