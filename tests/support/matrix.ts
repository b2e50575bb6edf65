// What the life-cycle matrices share: what a call comes to, in one word, and which names a class
// has for its users.
//
// Names are found on the prototypes, so that a new public method without a row fails its matrix.

import { expect } from "bun:test";
import { Operation, type Ring } from "../../ts/index.ts";

/** The error's code, or what kind of value came back. */
export function outcomeOf(call: () => unknown): string {
  let value: unknown;
  try {
    value = call();
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
  if (value instanceof Operation) {
    // Its own outcome is another test's business, a rejection is not to be left alone.
    value.then(undefined, () => undefined);
    value.cancel();
    return "operation";
  }
  if (typeof (value as PromiseLike<unknown> | null)?.then === "function") {
    (value as PromiseLike<unknown>).then(undefined, () => undefined);
    return "promise";
  }
  if (typeof value === "object" && value !== null) return "object";
  return String(value);
}

/** Public names of an object's class and the classes below it. */
export function namesOf(prototype: object, internal: readonly string[]): string[] {
  const names = new Set<string>();
  for (let at = prototype; at !== Object.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const key of Reflect.ownKeys(at)) names.add(String(key));
  }
  for (const name of ["constructor", ...internal]) names.delete(name);
  return [...names].sort();
}

export function expectRows(
  thing: object,
  internal: readonly string[],
  rows: Record<string, unknown>,
  further: readonly string[] = [],
): void {
  const names = namesOf(Object.getPrototypeOf(thing) as object, internal);
  expect([...names, ...further].sort()).toEqual(Object.keys(rows).sort());
}

/** Wrapped, since what is awaitable would be awaited on its way. */
export interface Held<Thing> {
  held: Thing;
}

/** Each state is a function that brings a thing into it. */
export interface Matrix<Thing> {
  name: string;
  /** Names that are no part of what users see. */
  internal: readonly string[];
  /** Rows that are no method, but uses of the thing or its own fields. */
  further?: readonly string[];
  states: Record<string, (ring: Ring) => Promise<Held<Thing>> | Held<Thing>>;
  rows: Record<string, [call: (thing: Thing, ring: Ring) => unknown, ...cells: string[]]>;
}
