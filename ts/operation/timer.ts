// Operations that wait for the clock: timeout and interval.
//
// Outside of a batch both are the library's own, `timer.ts`.

import { ARGUMENTS_WORDS, OperationKind } from "../abi.ts";
import { argumentError } from "../errors.ts";
import { Interval, type BeatHandler, type IntervalOptions } from "../interval.ts";
import { expired } from "../mapped.ts";
import {
  callbackOf,
  launch,
  optionsOf,
  type Callback,
  type Operation,
  type OperationOptions,
} from "../operation.ts";
import { checkDuration, startTimeout, type Deadline } from "../timer.ts";
import { Waiting } from "../waiting.ts";

export class TimerOperations extends Waiting {
  /**
   * Completes with 0 after so many milliseconds, 0 to 2147483647, of which fractions count; or at a
   * moment, `{ at: performance.now() + 50 }` or `{ at: new Date(…) }`, at once if it has passed.
   * Never early, and never within the call. Equal deadlines end in the order in which they were
   * started. No system call: all timers share one of the kernel's. Callback: `(result)`.
   */
  timeout(
    when: number | Deadline,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    this.assertOpen("timeout");
    const given = optionsOf("timeout", options);
    const told = callbackOf("timeout", options, callback);
    if (this.batching) return this.#member(when, given, told);
    return startTimeout(this, when, given, told);
  }

  /** In a batch it is the kernel's own, which alone can link it: IORING_OP_TIMEOUT. */
  #member(
    milliseconds: unknown,
    options: OperationOptions,
    callback: Callback<never> | undefined,
  ): Operation {
    const duration = checkDuration("timeout", milliseconds, 0);
    this.memory.arguments.reset(-1);
    this.memory.arguments.doubles[ARGUMENTS_WORDS.offset] = duration;
    return launch(this, OperationKind.timeout, -1, expired, options, callback);
  }

  /**
   * Beats each so many milliseconds, 1 to 2147483647, until it is cancelled: `handler(beats)`, or
   * `for await (const beats of ring.interval(100))`. The n-th is due n periods after the start,
   * without drift. `beats` is 1, or more when some were missed, which are told as one: there is
   * never a burst.
   */
  interval(
    milliseconds: number,
    options?: IntervalOptions | BeatHandler,
    handler?: BeatHandler,
  ): Interval {
    this.assertOpen("interval");
    const given = optionsOf("interval", options);
    const told = callbackOf("interval", options, handler) as BeatHandler | undefined;
    if (this.batching || (given as OperationOptions).timeout !== undefined) {
      const expected = "outside of a batch, with a signal at most";
      throw argumentError("interval", "an interval", expected, options);
    }
    return new Interval(this, milliseconds, given, told);
  }
}
