// What the tests of wrong arguments share: values of every kind by name, and how a case is checked:
// refused with a UringError that says what was expected and what came, before anything crosses.

import { expect, describe, test } from "bun:test";
import { connect, listen, Ring, UringError } from "../../ts/index.ts";
import type { Pair } from "./pair.ts";

/** Values by a name that the test's name can hold. */
export const VALUES: Record<string, unknown> = {
  null: null,
  undefined: undefined,
  true: true,
  zero: 0,
  "minus one": -1,
  half: 0.5,
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "2 ** 31": 2 ** 31,
  "2 ** 32": 2 ** 32,
  "2 ** 53": 2 ** 53,
  "a bigint": 7n,
  "an empty string": "",
  "a string": "7",
  "a symbol": Symbol("seven"),
  "a function": () => 7,
  "an array": [1, 2],
  "an object": { length: 3, byteLength: 3 },
  "an object without prototype": Object.create(null),
  "a proxy": new Proxy({}, {}),
  "a date": new Date(0),
  "a promise": Promise.resolve(1),
};

export const but = (...names: string[]) => {
  return Object.keys(VALUES).filter((name) => !names.includes(name));
};
export const NOT_BOOLEAN = but("true", "undefined");
export const NOT_OBJECT = Object.keys(VALUES).filter((name) => {
  return typeof VALUES[name] !== "object" || VALUES[name] === null;
});
export const NOT_FUNCTION = but("a function", "undefined");
export const OUT_OF_RANGE = but("true", "zero", "undefined");

export interface Case {
  /** "write(data)" */
  what: string;
  call(value: unknown, both: Pair): unknown;
  wrong: string[];
  /** What the message must name. */
  names: string;
}

/** For calls that TypeScript would refuse: the caller may be JavaScript. */
export const untyped = (value: unknown) => value as never;

export const place = { hostname: "127.0.0.1", port: 0, socket: { data() {} } };
export const listening = (options: object) => {
  listen(untyped({ ...place, ...options })).stop(true);
};
export const connecting = (options: object) => connect(untyped({ ...place, port: 9, ...options }));
export const opening = (options: object) => new Ring(untyped(options)).close();

/** What `call` throws or rejects with. */
export async function outcomeOf(call: () => unknown): Promise<unknown> {
  try {
    return ["no error", await call()];
  } catch (error) {
    return error;
  }
}

/** A test for each wrong value of each case; `both` is the connection that it is tried on. */
export function describeCases(cases: Case[], both: () => Pair): void {
  describe.each(cases)("$what", ({ call, wrong, names }) => {
    test.each(wrong)("refuses %s", async (name) => {
      const error = await outcomeOf(() => call(VALUES[name], both()));
      expect(error).toBeInstanceOf(UringError);
      const { code, errno, phase, message } = error as UringError;
      expect([code, errno, phase]).toEqual(["EINVAL", -22, "submission"]);
      expect(message).toContain(names);
      expect(message).toMatch(/must be .+, not ./);
    });
  });
}
