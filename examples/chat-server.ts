// Chat server: a line protocol; the first line is your name, every further one goes to all others.
//
// Shows: `for await` over a socket instead of a data handler, lines cut from chunks, an idle
// time-out, what becomes of a reader that is too slow, a graceful stop. Needs Linux 5.19.
//
//   run it   bun examples/chat-server.ts --port 7000
//   try it   nc 127.0.0.1 7000, twice                  stop it with Ctrl-C

import { listen, type Socket } from "bun-uring";
import { parseArgs } from "node:util";

type Member = Socket<string>; // its data is the name
const IDLE_SECONDS = 600;
const LINE_MAX = 1000;

const members = new Set<Member>();

/** What a member does not take now would have to wait somewhere: who is too slow has to go. */
function say(line: string, except?: Member): void {
  const bytes = Buffer.from(`${line}\n`);
  for (const member of members) {
    if (member !== except && member.write(bytes) < bytes.length) member.terminate();
  }
}

/** The lines of a connection, until its end; the last one may lack its newline. */
async function* linesOf(socket: Member): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of socket) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line.trimEnd();
    if (rest.length > LINE_MAX) return void socket.end("* your line is too long\n");
  }
  if (rest !== "") yield rest;
}

async function serve(socket: Member): Promise<void> {
  socket.timeout(IDLE_SECONDS);
  socket.write("your name?\n");
  for await (const line of linesOf(socket)) {
    socket.timeout(IDLE_SECONDS); // data does not put it off: this does
    if (socket.data === "") {
      socket.data = line || "nobody";
      members.add(socket);
      say(`* ${socket.data} is here, with ${members.size - 1} others`);
    } else {
      say(`${socket.data}: ${line}`, socket);
    }
  }
}

try {
  const { values } = parseArgs({ options: { port: { type: "string", default: "7000" } } });
  const server = listen<string>({
    hostname: "127.0.0.1",
    port: Number(values.port || NaN),
    data: "",
    socket: {
      open: serve, // what it throws, a reset for one, is told to `error`
      error: (socket, error) => console.error(`${socket.data || "nobody"}: ${error.message}`),
      timeout: (socket) => void socket.end("* are you asleep?\n"),
      close(socket) {
        if (members.delete(socket)) say(`* ${socket.data} is gone`);
      },
    },
  });
  console.log(`chat on ${server.hostname}:${server.port}`);
  process.on("SIGINT", () => {
    say("* the server stops");
    server.stop(true); // what was said still leaves
  });
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
