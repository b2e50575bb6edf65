// Reads the command line of the benchmark: names, bounds and defaults of all options.
//
// A wrong option becomes an OptionError with one line that says what was expected and what was
// given; run.ts prints it and exits with code 1.

/** What the user typed is wrong; the message is all that is shown. */
export class OptionError extends Error {}

export interface Options {
  connections: number[];
  size: number[];
  depth: number[];
  rounds: number;
  seconds: number;
  warmup: number;
  rate: number;
  drivers: string[] | null;
}

const defaults: Readonly<Options> = {
  connections: [64, 512],
  size: [64],
  depth: [1],
  rounds: 5,
  seconds: 2,
  warmup: 0.5,
  rate: 0,
  drivers: null,
};

/** `--name value` and `--name=value`, each at most once. */
export function parseOptions(texts: readonly string[], drivers: readonly string[]): Options {
  const options = structuredClone(defaults) as Options;
  const seen = new Set<string>();
  for (let i = 0; i < texts.length; i++) {
    const [name, inline] = split(texts[i] as string);
    if (!Object.hasOwn(readers, name)) {
      const known = Object.keys(readers).map((key) => `--${key}`).join(", ");
      throw new OptionError(`unknown option '${texts[i]}': expected ${known}`);
    }
    const value = inline ?? texts[++i];
    if (value === undefined) throw new OptionError(`--${name}: expected a value, got none`);
    if (seen.has(name)) throw new OptionError(`--${name}: given twice`);
    seen.add(name);
    readers[name as keyof Options](options, value, drivers);
  }
  return options;
}

type Reader = (options: Options, value: string, drivers: readonly string[]) => void;

// The bounds are those of the load generator.
const readers: Record<keyof Options, Reader> = {
  connections(options, value) {
    options.connections = integers("connections", value, 1, 4096);
  },
  size(options, value) {
    options.size = integers("size", value, 1, 1 << 20);
  },
  depth(options, value) {
    options.depth = integers("depth", value, 1, 1024);
  },
  rounds(options, value) {
    options.rounds = integer("rounds", value, 1, 1000);
  },
  seconds(options, value) {
    options.seconds = seconds("seconds", value, 0.1);
  },
  warmup(options, value) {
    options.warmup = seconds("warmup", value, 0);
  },
  rate(options, value) {
    options.rate = integer("rate", value, 0, 100_000_000);
  },
  drivers(options, value, known) {
    const names = value.split(",");
    const wrong = names.find((name) => !known.includes(name));
    if (wrong === undefined) options.drivers = [...new Set(names)];
    else throw new OptionError(`--drivers: unknown '${wrong}', expected ${known.join(", ")}`);
  },
};

function split(text: string): [name: string, value: string | undefined] {
  const match = /^--([a-z]+)(?:=(.*))?$/.exec(text);
  return match === null ? [text, undefined] : [match[1] as string, match[2]];
}

function integers(name: string, value: string, low: number, high: number): number[] {
  return value.split(",").map((text) => integer(name, text, low, high));
}

function integer(name: string, text: string, low: number, high: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= high) return value;
  throw new OptionError(`--${name}: expected an integer from ${low} to ${high}, got '${text}'`);
}

function seconds(name: string, text: string, low: number): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (value >= low && value <= 600) return value;
  throw new OptionError(`--${name}: expected ${low} to 600 seconds, got '${text}'`);
}
