// Errors that go from one thread to another: taken apart there, put together here.
//
// A structured clone of an error keeps its message and little else; class, name, stack, cause and
// whatever else can be cloned are carried along.

import { serialize } from "bun:jsc";

/** An error with what a structured clone would lose. */
export interface DescribedError {
  name: string;
  message: string;
  stack: string | undefined;
  properties: Record<string, unknown>;
}

/** Whatever was thrown. */
export function describeError(thrown: unknown): DescribedError {
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  const { name, message, stack } = error;
  const properties: Record<string, unknown> = {};
  const { cause } = error;
  for (const [key, value] of Object.entries({ ...error, ...(cause !== undefined && { cause }) })) {
    if (isClonable(value)) properties[key] = value;
  }
  return { name, message, stack, properties };
}

function isClonable(value: unknown): boolean {
  try {
    serialize(value);
    return true;
  } catch {
    return false;
  }
}

/**
 * In a Worker: ends it after what nobody has caught, as it would end by itself, and tells what it
 * was; Bun's own event has only a text. A program that listens itself is left to it.
 */
export function tellOfDeath(tell: (error: DescribedError) => void): void {
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (thrown: unknown) => {
      if (process.listenerCount(event) > 1) return;
      tell(describeError(thrown));
      process.exit(1);
    });
  }
}

/** Classes that a thrown error gets back; another one is an Error with its name. */
const ERRORS = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError];

export function reviveError({ name, message, stack, properties }: DescribedError): Error {
  const known = ERRORS.find((candidate) => candidate.name === name) ?? Error;
  const error = new known(message);
  Object.assign(error, properties);
  Object.defineProperty(error, "name", { value: name, configurable: true, writable: true });
  Object.defineProperty(error, "stack", { value: stack, configurable: true, writable: true });
  return error;
}
