// What runs in an emulated machine, by Bun: the parts that it is told, one after the other. The
// host, .tasks/kernels.mjs, reads the lines that begin with "guest: ".

import { readFileSync } from "node:fs";
import { release } from "node:os";

/** A part is `{ name, command, seconds, env }`; what it prints is shown if it fails. */
async function perform({ name, command, seconds, env, tolerated }) {
  const child = Bun.spawn(command, {
    cwd: "/tree",
    env: { ...process.env, ...env },
    stdout: "pipe",
    stderr: "pipe",
    timeout: seconds * 1000,
    killSignal: "SIGKILL",
  });
  const [out, err] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const code = await child.exited;
  const counts = counted(out + err);
  const said = { name, code, tolerated, ...counts, ...featuresOf(name, out) };
  console.log(`guest: ${JSON.stringify(said)}`);
  if (code !== 0 && !tolerated) console.log(excerpt(out + err));
}

function featuresOf(name, output) {
  return name === "features" && output.startsWith("[") ? { features: JSON.parse(output) } : {};
}

function counted(output) {
  const zig = /^zig: (\d+) passed, (\d+) failed$/m.exec(output);
  if (zig) return { passed: Number(zig[1]), failed: Number(zig[2]) };
  const number = (word) => Number(new RegExp(`^ *(\\d+) ${word}$`, "m").exec(output)?.[1] ?? 0);
  return { passed: number("pass"), failed: number("fail"), skipped: number("skip") };
}

/** Failures with what came before them; all of it would take long over a serial line. */
function excerpt(output) {
  const lines = output.split("\n");
  const near = (i) => lines.slice(i, i + 25).some((line) => line.startsWith("(fail)"));
  const shown = lines.filter((line, i) => near(i) && !line.startsWith("(pass)"));
  return (shown.length > 0 ? shown : lines).slice(-400).join("\n");
}

console.log(`guest: ${JSON.stringify({ release: release() })}`);
const { parts } = JSON.parse(readFileSync("/parts.json", "utf8"));
for (const part of parts) await perform(part);
