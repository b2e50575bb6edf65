// examples/chat-server.ts as its users know it: names, lines, those who come and go, and how it
// stops.

import { expect, test } from "bun:test";
import { fileURLToPath } from "node:url";
import { connect } from "../ts/index.ts";
import { run, start } from "./support/child.ts";
import { until } from "./support/until.ts";

const PATH = fileURLToPath(new URL("../examples/chat-server.ts", import.meta.url));

async function chat() {
  const child = start(PATH, { arguments: ["--port", "0"] });
  const { value } = await child.stdout.getReader().read();
  const port = Number(/:(\d+)\n/.exec(Buffer.from(value ?? []).toString())?.[1]);
  return {
    child,
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

async function guest(port: number) {
  const heard: string[] = [];
  let closed = false;
  const socket = await connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data: (_socket, chunk) => void heard.push(chunk.toString()),
      close: () => void (closed = true),
    },
  });
  const text = () => heard.join("");
  const hears = (line: string) => until(() => text().includes(`${line}\n`), `${line}: ${text()}`);
  return { socket, text, hears, isClosed: () => closed };
}

test("lines go to all others, however they are cut; guests come and go", async () => {
  await using server = await chat();
  const anna = await guest(server.port);
  await anna.hears("your name?");
  anna.socket.write("an");
  anna.socket.write("na\n");
  await anna.hears("* anna is here, with 0 others");
  const berta = await guest(server.port);
  berta.socket.write("berta\nhello\nhow are ");
  await anna.hears("berta: hello");
  berta.socket.end("you?");
  await anna.hears("berta: how are you?");
  await anna.hears("* berta is gone");
  expect(berta.text()).toBe("your name?\n* berta is here, with 1 others\n");
  await until(berta.isClosed);
});

test("a line without an end is cut off, with a word", async () => {
  await using server = await chat();
  const anna = await guest(server.port);
  anna.socket.write("x".repeat(2000));
  await anna.hears("* your line is too long");
  await until(anna.isClosed);
});

test("stops on SIGINT: the last word is said, and nothing is left", async () => {
  await using server = await chat();
  const anna = await guest(server.port);
  anna.socket.write("anna\n");
  await anna.hears("* anna is here, with 0 others");
  server.child.kill("SIGINT");
  await anna.hears("* the server stops");
  expect(await server.child.exited).toBe(0);
  expect(await server.child.stderr.text()).toBe("");
});

test("a wrong port is one clear line and exit code 1", async () => {
  const { code, stderr } = await run(PATH, { arguments: ["--port", "x"] });
  expect([code, stderr.trimEnd().split("\n").length]).toEqual([1, 1]);
});
