// Programs that must not compile. Above each wrong line stands what the compiler has to say of it:
// its code and a part of its text; the line below is the twin that is right, and compiles.

import { prepare, Ring, type Operation, type Socket } from "../../ts/index.ts";

declare const ring: Ring;
declare const fd: number;
declare const socket: Socket;
const bytes = new Uint8Array(8);

// No file.
// expect TS2339: Property 'submit' does not exist on type
prepare.read().buffer(bytes).submit(ring);
prepare.read().buffer(bytes).file(fd).submit(ring);

// No buffer.
// expect TS2339: Property 'submit' does not exist on type
prepare.write().file(fd).at(0).submit(ring);
prepare.write().file(fd).at(0).buffer(bytes).submit(ring);

// Neither.
// expect TS2339: Property 'submit' does not exist on type
prepare.recv().submit(ring);
prepare.recv().file(fd).buffer(bytes).submit(ring);

// A chain of what is not complete.
// expect TS2741: Property 'submit' is missing in type
ring.link([prepare.write().file(fd), prepare.fsync().file(fd)]);
ring.link([prepare.write().file(fd).buffer(bytes), prepare.fsync().file(fd)]);

// The result before the completion.
// expect TS2339: Property 'bytes' does not exist on type 'Operation<
ring.read(fd, bytes).bytes;
(await ring.read(fd, bytes)).bytes;

// A text cannot be read into.
// expect TS2345: Argument of type 'string' is not assignable to parameter of type
ring.read(fd, "text");
ring.write(fd, "text");

// A builder has no buffer where its operation has none.
// expect TS2345: is not assignable to parameter of type 'never'
prepare.fsync().buffer(bytes);
prepare.fsync().file(fd);

// One buffer where vectors are wanted.
// expect TS2739: is missing the following properties from type 'readonly Target[]'
prepare.readv().buffer(bytes);
prepare.readv().buffer([bytes]);

// What a callback is given is what was passed.
// expect TS2345: is not assignable to parameter of type
ring.read(fd, bytes, (_result, buffer: string) => buffer);
ring.read(fd, bytes, (_result, buffer: Uint8Array) => void buffer);

// An operation is not its outcome.
// expect TS2322: is not assignable to type 'number'
export const opened: number = ring.openat("file", "r");
export const opening: Operation<number> = ring.openat("file", "r");

// A send takes memory or text.
// expect TS2345: Argument of type 'number' is not assignable to parameter of type 'Source'
socket.send(5);
socket.send("5");

// A chain has parts, and breaks in one of two ways.
// expect TS2345: Argument of type 'string' is not assignable to parameter of type
socket.chain("parts");
socket.chain(["parts"], { onBreak: "report" });

// What was sent is known when it was.
// expect TS2339: Property 'bytes' does not exist on type 'Operation<
socket.writev([bytes]).bytes;
(await socket.writev([bytes])).bytes;
