// Operations on the ring itself: nop, cancel, and waiting for a descriptor (poll).
//
// What every operation shares stands here too: how a descriptor or a registered file is named.

import { ARGUMENTS_WORDS, ERRNO, OperationKind, OperationOption } from "../abi.ts";
import { argumentError, checkBoolean, checkInteger } from "../errors.ts";
import { Mapped } from "../mapped.ts";
import { native } from "../native.ts";
import {
  callbackOf,
  launch,
  launchNop,
  NO_OPTIONS,
  Operation,
  optionsOf,
  setOption,
  type Callback,
  type OperationOptions,
} from "../operation.ts";
import { RegisteredFile } from "../registered.ts";
import type { OperationName } from "../ring_options.ts";
import { TimerOperations } from "./timer.ts";

/** A descriptor, or a registered file in its place. */
export type File = number | RegisteredFile;

const WORDS = ARGUMENTS_WORDS;
const FD_MAX = 0x7fff_ffff;

/** What `poll` and `watch` wait for: names, or bits of poll(2). */
export type PollEvents = "read" | "write" | "read+write" | number;

export const POLL = { in: 0x1, out: 0x4, err: 0x8, hup: 0x10, rdhup: 0x2000 } as const;

const POLL_NAMES: Record<string, number> = {
  read: POLL.in | POLL.rdhup,
  write: POLL.out,
  "read+write": POLL.in | POLL.rdhup | POLL.out,
};

export function readEvents(operation: string, events: unknown): number {
  if (typeof events === "string" && Object.hasOwn(POLL_NAMES, events)) {
    return POLL_NAMES[events] as number;
  }
  if (typeof events === "number" && Number.isInteger(events) && events > 0 && events <= 0xffff) {
    return events;
  }
  throw argumentError(operation, "events", "\"read\", \"write\", \"read+write\" or bits", events);
}

export interface PollOptions extends OperationOptions {
  /** A completion for each change until it is cancelled; needs a callback. */
  multishot?: boolean;
}

/** What `cancelAll` selects; what is left out fits everything. */
export interface CancelFilter {
  fd?: number;
  kind?: string;
}

export class ControlOperations extends TimerOperations {
  /** @internal Checks the ring and resets the argument words to `file`. Returns its descriptor. */
  prepareFile(kind: string, file: File): number {
    this.assertOpen(kind);
    if (typeof file === "number") {
      checkInteger(kind, "fd", file, 0, FD_MAX);
      this.memory.arguments.reset(file);
      return file;
    }
    if (!(file instanceof RegisteredFile)) {
      throw argumentError(kind, "fd", "a descriptor or a registered file", file);
    }
    file.assertRegistered(kind, this);
    this.memory.arguments.reset(file.index);
    setOption(this, OperationOption.registered_file);
    return file.fd;
  }

  /** Does nothing, through the ring. Callback: `(result)`. */
  nop(
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    if (this.state !== "open") this.assertOpen("nop");
    if (typeof options === "function" && this.linkBits === 0) return launchNop(this, options);
    const given = optionsOf("nop", options);
    const told = callbackOf("nop", options, callback);
    if (given === NO_OPTIONS && this.linkBits === 0) return launchNop(this, told);
    this.memory.arguments.reset(-1);
    return launch(this, OperationKind.nop, -1, null, given, told);
  }

  /**
   * `poll()`: dispatches what is ready and never blocks; the number of completions handled.
   * `poll(fd, events)`: completes when the descriptor is ready, with the bits of poll(2); with
   * `multishot` the callback comes at each change, until it is cancelled. Callback: `(events)`.
   */
  override poll(): number;
  override poll(
    fd: File,
    events: PollEvents,
    options?: PollOptions | Callback,
    callback?: Callback,
  ): Operation;
  override poll(
    fd?: File,
    events?: PollEvents,
    options?: PollOptions | Callback,
    callback?: Callback,
  ): number | Operation {
    if (fd === undefined && events === undefined) return super.poll();
    const bits = readEvents("poll", events);
    const given = optionsOf("poll", options as PollOptions);
    const told = callbackOf("poll", options, callback);
    const multishot = checkBoolean("poll", "multishot", given.multishot ?? false);
    if (multishot && told === undefined) {
      throw argumentError("poll", "callback", "a function, with multishot", undefined);
    }
    const descriptor = this.prepareFile("poll", fd as File);
    this.memory.arguments.integers[WORDS.mode] = bits;
    if (multishot) setOption(this, OperationOption.multishot);
    return launch(this, OperationKind.poll, descriptor, null, given, told);
  }

  /**
   * Asks for the end of another operation, whose own outcome tells what became of it. Completes
   * with 0 if it was asked; "ENOENT": it is over; "EALREADY": it was asked before.
   */
  cancel(
    target: Operation<unknown>,
    options?: OperationOptions | Callback,
    callback?: Callback,
  ): Operation {
    this.assertOpen("cancel");
    if (!(target instanceof Operation)) {
      throw argumentError("cancel", "target", "an operation", target);
    }
    const told = callbackOf("cancel", options, callback);
    const given = optionsOf("cancel", options);
    let outcome = target.pending ? 0 : -ERRNO.ENOENT;
    if (target.pending && !target.cancel()) outcome = -ERRNO.EALREADY;
    const answer = new Mapped((result) => (result < 0 ? result : outcome));
    this.memory.arguments.reset(-1);
    return launch(this, OperationKind.nop, -1, answer, given, told);
  }

  /** Cancels every operation that fits the filter: the number asked. */
  cancelAll(filter: CancelFilter = {}): number {
    this.assertOpen("cancelAll");
    if (typeof filter !== "object" || filter === null) {
      throw argumentError("cancelAll", "filter", "an object", filter);
    }
    const { fd, kind } = filter;
    if (fd !== undefined) checkInteger("cancelAll", "fd", fd, 0, FD_MAX);
    if (kind !== undefined && typeof kind !== "string") {
      throw argumentError("cancelAll", "kind", "the name of an operation", kind);
    }
    return this.cancelPending((operation) => {
      return (fd ?? operation.fd) === operation.fd && (kind ?? operation.kind) === operation.kind;
    });
  }

  /** @internal */
  cancelPending(fits: (operation: Operation<unknown>) => boolean): number {
    let asked = 0;
    // From the end: each request goes in front of the others, and the kernel finds the oldest of
    // its timers at once but walks past all of them to the youngest.
    for (let index = this.operations.length - 1; index >= 0; index--) {
      const operation = this.operations[index];
      if (operation !== undefined && fits(operation) && operation.cancel()) asked++;
    }
    return asked;
  }

  /** How many operations of a kind went through the ring, and how many by plain system calls. */
  operationCount(kind: OperationName): { ring: number; plain: number } {
    this.assertOpen("operationCount");
    const number = kindNumber("operationCount", kind);
    const { handle } = this;
    return {
      ring: native.bu_operation_count(handle, number, 0),
      plain: native.bu_operation_count(handle, number, 1),
    };
  }
}

export function kindNumber(operation: string, kind: unknown): OperationKind {
  if (typeof kind === "string" && Object.hasOwn(OperationKind, kind)) {
    return OperationKind[kind as OperationName];
  }
  const known = Object.keys(OperationKind).join(", ");
  throw argumentError(operation, "kind", `one of ${known}`, kind);
}
