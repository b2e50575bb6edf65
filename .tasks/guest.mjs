// What runs in an emulated machine, by Bun: the parts that it is told, one after the other. The
// host, .tasks/kernels.mjs, reads the lines that begin with "guest: ".

import { closeSync, openSync, readFileSync } from "node:fs";
import { release } from "node:os";

const OUTPUT = "/tmp/output";
/** What a part prints on its way may end in mid-test: its last lines say where. */
const EXCERPT_LINES_MAX = 200;
const SLOW_MS = 10_000;

const say = (fact) => console.log(`guest: ${JSON.stringify(fact)}`);

/**
 * A part is `{ name, command, seconds, env }`. Its time limit ends all of its processes. What it
 * printed is shown if it fails; it goes through a file, since a pipe would stay open as long as one
 * of its children lives.
 */
async function perform({ name, command, seconds, env }) {
  const output = openSync(OUTPUT, "w");
  const started = performance.now();
  const child = Bun.spawn(command, {
    cwd: "/tree",
    env: { ...process.env, ...env },
    stdio: ["ignore", output, output],
    detached: true, // a process group of its own
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    end(child.pid);
  }, seconds * 1000);
  const code = await child.exited;
  clearTimeout(timer);
  end(child.pid);
  closeSync(output);
  const text = readFileSync(OUTPUT, "utf8");
  const took = (performance.now() - started) / 1000;
  say({ name, code, late, seconds: took, ...counted(text), ...featuresOf(name, text) });
  console.log(code === 0 ? slowOf(text) : excerpt(text));
}

/** Kills what is left of a process group; mostly there is nothing. */
function end(group) {
  try {
    process.kill(-group, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}

function featuresOf(name, output) {
  return name === "features" && output.startsWith("[") ? { features: JSON.parse(output) } : {};
}

/** Of a file that was ended there is no sum: then its tests are counted, as far as it came. */
function counted(output) {
  const zig = /^zig: (\d+) passed, (\d+) failed$/m.exec(output);
  if (zig) return { passed: Number(zig[1]), failed: Number(zig[2]), skipped: 0 };
  const lines = (word) => output.match(new RegExp(`^\\(${word}\\) `, "gm"))?.length ?? 0;
  const number = (word) => {
    const sum = new RegExp(`^ *(\\d+) ${word}$`, "m").exec(output);
    return sum ? Number(sum[1]) : lines(word);
  };
  return { passed: number("pass"), failed: number("fail"), skipped: number("skip") };
}

/** What makes a part slow. */
function slowOf(output) {
  const slow = ([, milliseconds]) => Number(milliseconds) > SLOW_MS;
  const tests = [...output.matchAll(/^\(pass\) .*\[([\d.]+)ms\]$/gm)].filter(slow);
  return tests.map(([line]) => line).join("\n");
}

/** Failures with what came before them; all of it would take long over a serial line. */
function excerpt(output) {
  const lines = output.split("\n");
  const near = (i) => lines.slice(i, i + 25).some((line) => line.startsWith("(fail)"));
  const shown = lines.filter((line, i) => near(i) && !line.startsWith("(pass)"));
  return (shown.length > 0 ? shown : lines).slice(-EXCERPT_LINES_MAX).join("\n");
}

say({ release: release() });
const { parts } = JSON.parse(readFileSync("/parts.json", "utf8"));
for (const part of parts) await perform(part);
