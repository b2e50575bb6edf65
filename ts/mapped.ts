// Mapped: the cargo of an operation that brings a number alone.
//
// What the number means is its kind's: for a time-out, -ETIME is what was asked for.

import { ERRNO } from "./abi.ts";
import type { Cargo } from "./operation.ts";

/** The result of an operation without data, mapped: what one kind says of a number. */
export class Mapped implements Cargo<number> {
  readonly input = null;
  readonly buffer = undefined;
  readonly #map: (result: number) => number;

  constructor(map: (result: number) => number) {
    this.#map = map;
  }

  // Nothing to take, nothing to give back.
  board(): void {}
  orphan(): void {}

  land(_engine: unknown, index: number, result: number): number {
    return index < 0 ? result : this.#map(result);
  }

  value(result: number): number {
    return result;
  }

  detail(): undefined {
    return undefined;
  }
}

/** A time-out that expires is what was asked for: timeout of io_uring_enter(2) says -ETIME. */
export const expired = new Mapped((result) => (result === -ERRNO.ETIME ? 0 : result));
