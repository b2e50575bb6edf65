// Signals of a server: the first drains it and ends the process in order, a second ends it at once.
//
// In order is exit code 0, or `process.exitCode`: what service managers take for success. At once
// is death by the signal itself, which a shell shows as 128 and its number.

import { constants } from "node:os";
import { argumentError } from "./errors.ts";

const DEFAULTS: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"];

export function readSignals(given: unknown): readonly NodeJS.Signals[] {
  if (given === undefined || given === false) return [];
  if (given === true) return DEFAULTS;
  const isSignal = (name: unknown) => typeof name === "string" && name in constants.signals;
  if (Array.isArray(given) && given.every(isSignal)) return given as NodeJS.Signals[];
  throw argumentError("serve", "signals", "true, or an array of signals' names", given);
}

/** Heeds them until it is disposed of. */
export class SignalWatch implements Disposable {
  readonly #signals: readonly NodeJS.Signals[];
  readonly #drain: () => Promise<void>;
  readonly #handler = (signal: NodeJS.Signals) => this.#heard(signal);
  #draining = false;

  constructor(signals: readonly NodeJS.Signals[], drain: () => Promise<void>) {
    this.#signals = signals;
    this.#drain = drain;
    for (const signal of signals) process.on(signal, this.#handler);
  }

  async #heard(signal: NodeJS.Signals): Promise<void> {
    if (this.#draining) return this.#die(signal);
    this.#draining = true;
    await this.#drain();
    process.exit(process.exitCode ?? 0);
  }

  #die(signal: NodeJS.Signals): void {
    this.#release();
    // Somebody else's handler would keep the process alive.
    if (process.listenerCount(signal) > 0) process.exit(128 + constants.signals[signal]);
    process.kill(process.pid, signal);
  }

  #release(): void {
    for (const signal of this.#signals) process.off(signal, this.#handler);
  }

  /** Unless they are what ends the server: a second one still counts. */
  [Symbol.dispose](): void {
    if (!this.#draining) this.#release();
  }
}
