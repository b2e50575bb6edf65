// The command line of the benchmark: `bun bench/run.ts TRIAL [options]`.
//
// It picks the trial, reads the options and ends with one clear line when something is wrong.
import { killAll } from "./children.ts";
import { OptionError, parseOptions, type Options } from "./options.ts";
import * as beside from "./trials/beside.ts";
import * as copy from "./trials/copy.ts";
import * as echo from "./trials/echo.ts";
import * as idle from "./trials/idle.ts";
import * as proxy from "./trials/proxy.ts";

interface Trial {
  summary: string;
  driverNames: readonly string[];
  run(options: Options): Promise<void>;
}

const trials: Record<string, Trial> = { echo, beside, copy, proxy, idle };

const usage = `bun bench/run.ts TRIAL [options]

${Object.entries(trials).map(([name, trial]) => `  ${name.padEnd(8)}${trial.summary}`).join("\n")}

  --connections 64,512   connections, each value a cell
  --size 64              bytes in a message, each value a cell
  --depth 1              messages in flight on each connection, each value a cell
  --rounds 5             rounds; drivers take turns within a round
  --seconds 2            measured time of one cell in one round
  --warmup 0.5           time before it that is not measured
  --rate 0               messages/s over all connections, 0 = as many as possible
  --drivers a,b          ${echo.driverNames.join(", ")}`;

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    killAll();
    process.exit(signal === "SIGINT" ? 130 : 143);
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  killAll();
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(1);
}

async function main([name, ...rest]: string[]): Promise<void> {
  if (name === undefined || name === "--help" || rest.includes("--help")) {
    console.log(usage);
    return;
  }
  const trial = Object.hasOwn(trials, name) ? trials[name] : undefined;
  if (trial === undefined) {
    throw new OptionError(`unknown trial '${name}': expected ${Object.keys(trials).join(", ")}`);
  }
  await trial.run(parseOptions(rest, trial.driverNames));
}
