// `npm run simulate -- [--events N] [--seed N] [--kind connections|operations|datagrams]
// [--bug NAME]`: random runs of the native half on the simulated kernel, on one core, by default
// for ten million completions. A run that fails is told step by step, with the command that
// repeats it; a bug that is put in on purpose must be found.

import { install } from "./install.mjs";
import { foreground, main, TaskError, zig } from "./tools.mjs";

const OPTIONS = ["events", "seed", "kind", "bug"];

await main(async () => {
  const options = readOptions(process.argv.slice(2));
  await install();
  await foreground([...zig(), "build", "simulate", "--", ...options]);
});

/** `--name value` and `--name=value` as `--name=value`. */
function readOptions(words) {
  const options = [];
  for (let i = 0; i < words.length; i++) {
    const [, name, given] = /^--(\w+)(?:=(.*))?$/.exec(words[i]) ?? [];
    const value = given ?? words[++i];
    if (!OPTIONS.includes(name) || value === undefined) {
      const known = OPTIONS.map((option) => `--${option}`).join(", ");
      const text = words.join(" ");
      throw new TaskError(`${text}: each of ${known} takes a value, nothing else is known.`);
    }
    options.push(`--${name}=${value}`);
  }
  return options;
}
