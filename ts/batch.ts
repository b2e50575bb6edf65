// Batches and chains: prepared operations that reach the kernel together.
//
// All members are started between two calls of the library, which pushes them as one or takes them
// back. In a chain the first member that is no full success ends it: the later ones are cancelled,
// and their ECANCELED is told apart from its cause.

import { ERRNO } from "./abi.ts";
import { argumentError, submissionError, UringError } from "./errors.ts";
import { native } from "./native.ts";
import type { Operation } from "./operation.ts";
import { Builder, type AnyPrepared } from "./prepare.ts";
import type { Ring } from "./ring.ts";

/** What became of one member, in the order of the batch. */
export type Member =
  | { status: "done"; value: unknown }
  | { status: "failed"; error: UringError }
  /** It never ran: `cause` is the place of the member that ended the chain. */
  | { status: "cancelled"; error: UringError; cause: number };

export interface BatchResult {
  members: Member[];
  /** The place of the member that ended the chain: failed, or short; null if none did. */
  cause: number | null;
}

export class Batch implements PromiseLike<BatchResult>, Disposable {
  /** The members' handles, in order. */
  readonly operations: readonly Operation<unknown>[];
  readonly #chained: boolean;
  #promise: Promise<BatchResult> | null = null;

  /** @internal Batches come from `Ring.batch` and `Ring.link`. */
  constructor(operations: readonly Operation<unknown>[], chained: boolean) {
    this.operations = operations;
    this.#chained = chained;
  }

  get pending(): boolean {
    return this.operations.some((operation) => operation.pending);
  }

  /** Cancels what has not ended; true if anything was asked. */
  cancel(): boolean {
    return this.operations.filter((operation) => operation.cancel()).length > 0;
  }

  [Symbol.dispose](): void {
    this.cancel();
  }

  /** Resolves when all have ended; a member's failure is in its result and rejects nothing. */
  then<A = BatchResult, B = never>(
    onFulfilled?: ((result: BatchResult) => A | PromiseLike<A>) | null,
    onRejected?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#promise ??= this.#settle();
    return this.#promise.then(onFulfilled, onRejected);
  }

  async #settle(): Promise<BatchResult> {
    const members = await outcomes(this.operations);
    const firstCancelled = this.operations.findIndex(({ result }) => result === -ERRNO.ECANCELED);
    // The one before it: it failed, or was short, which ends a chain as well.
    const cause = causeOf(this.operations, this.#chained, firstCancelled);
    if (cause === null) return { members, cause };
    for (let place = cause + 1; place < members.length; place++) {
      const member = members[place] as Member;
      if (member.status !== "failed" || member.error.code !== "ECANCELED") continue;
      const { error } = member;
      const reason = members[cause] as Member;
      error.name = "UringError";
      error.cause = reason.status === "failed" ? reason.error : undefined;
      members[place] = { status: "cancelled", error, cause };
    }
    return { members, cause };
  }
}

/** What became of each, when all have ended: a promise for all instead of one for each. */
function outcomes(operations: readonly Operation<unknown>[]): Promise<Member[]> {
  return new Promise((resolve) => {
    let left = operations.length;
    const members: Member[] = Array.from({ length: left });
    const put = (place: number, member: Member) => {
      members[place] = member;
      if (--left === 0) resolve(members);
    };
    for (const [place, operation] of operations.entries()) {
      operation.observe({
        fulfil: (value) => put(place, { status: "done", value }),
        reject: (error) => put(place, { status: "failed", error }),
      });
    }
  });
}

function causeOf(
  operations: readonly Operation<unknown>[],
  chained: boolean,
  firstCancelled: number,
): number | null {
  const failed = operations.findIndex(({ result }) => {
    return result < 0 && result !== -ERRNO.ECANCELED;
  });
  if (!chained) return failed < 0 ? null : failed;
  if (failed >= 0) return failed;
  if (firstCancelled < 0) return null;
  // Cancelled on request itself, or behind a member that was short.
  return firstCancelled === 0 || operations[firstCancelled]?.asked ? firstCancelled
    : firstCancelled - 1;
}

export function startBatch(
  ring: Ring,
  name: string,
  members: readonly AnyPrepared[],
  linkBit: number,
): Batch {
  if (!Array.isArray(members) || members.length === 0) {
    throw argumentError(name, "members", "an array of prepared operations", members);
  }
  const given = (members as readonly unknown[]).map((member) => {
    if (!(member instanceof Builder)) {
      throw argumentError(name, "a member", "a prepared operation", member);
    }
    member.assertReady();
    return member;
  });
  const operations: Operation<unknown>[] = [];
  const begun = native.bu_batch_begin(ring.handle);
  if (begun < 0) throw submissionError(begun, name, -1);
  ring.batching = true;
  try {
    for (const [place, member] of given.entries()) {
      // The last member links to nothing: what comes after the batch is not part of it.
      ring.linkBits = place < given.length - 1 ? linkBit : 0;
      operations.push(member.start(ring));
    }
  } catch (error) {
    // Not sent yet, so that a cancel takes them out: none of them runs.
    for (const operation of operations) operation.cancel();
    endBatch(ring, name, operations);
    if (error instanceof UringError) error.operations = operations;
    throw error;
  } finally {
    ring.linkBits = 0;
    ring.batching = false;
  }
  const refused = endBatch(ring, name, operations);
  if (refused !== null) throw refused;
  return new Batch(operations, linkBit !== 0);
}

function endBatch(
  ring: Ring,
  name: string,
  operations: readonly Operation<unknown>[],
): UringError | null {
  const outcome = native.bu_batch_end(ring.handle);
  if (outcome >= 0) return null;
  for (const operation of operations) operation.withdraw(outcome);
  const error = submissionError(outcome, name, -1);
  error.message +=
    error.code === "EOPNOTSUPP"
      ? "; what this kernel does by a plain call can only be the first member of a chain"
      : `; ${operations.length} members are more than the submission queue holds`;
  error.operations = operations;
  return error;
}
