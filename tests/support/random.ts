// Seeded randomness for tests: the same seed gives the same sizes, choices and bytes.
// The seed is fresh in each run, or the one in TEST_SEED; `seeded` prints it with a failure.

/** mulberry32: small, fast, good enough to choose sizes. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number in [0, 1). */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.fraction() * (most - least + 1));
  }

  /** The same, small ones as likely as large ones: uniform in its logarithm. */
  size(least: number, most: number): number {
    const exponent = Math.log2(least) + this.fraction() * Math.log2((most + 1) / least);
    return Math.min(most, Math.floor(2 ** exponent));
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    const whole = length & ~3;
    for (let i = 0; i < whole; i += 4) bytes.writeUInt32LE((this.fraction() * 2 ** 32) >>> 0, i);
    for (let i = whole; i < length; i++) bytes[i] = this.between(0, 255);
    return bytes;
  }
}

/** Runs `body` with a seeded generator; an error names the seed that repeats it. */
export async function seeded(body: (random: Random) => Promise<void>): Promise<void> {
  const given = process.env["TEST_SEED"];
  const seed = given === undefined ? crypto.getRandomValues(new Uint32Array(1))[0] : Number(given);
  try {
    await body(new Random(seed ?? 0));
  } catch (error) {
    console.error(`repeat with TEST_SEED=${seed}`);
    throw error;
  }
}
