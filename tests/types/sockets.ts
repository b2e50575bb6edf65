// The types of sockets: what of `data`, chunks and listeners must not compile, each with its twin
// that does. The form is that of misuse.ts.

import { connect, listen, type Socket, type SocketHandler } from "../../ts/index.ts";

interface Session {
  name: string;
}

// The type of `data` is known in every handler.
listen<Session>({
  port: 0,
  data: { name: "" },
  socket: {
    open(socket) {
      // expect TS2322: Type 'number' is not assignable to type 'string'.
      socket.data.name = 7;
      socket.data.name = "seven";
      // expect TS2339: Property 'age' does not exist on type 'Session'.
      socket.data.age;
      socket.data.name.toUpperCase();
    },
    data() {},
  },
});

// It is taken from the option.
const typed = await connect({ port: 1, data: { count: 0 }, socket: {} });
// expect TS2322: Type 'string' is not assignable to type 'number'.
typed.data.count = "one";
typed.data.count = 1;

// Without one it is undefined.
const untyped = await connect({ port: 1, socket: {} });
// expect TS18048: 'untyped.data' is possibly 'undefined'.
untyped.data.count;
untyped.data satisfies undefined;

// A chunk is what binaryType says.
listen<undefined, "arraybuffer">({
  port: 0,
  socket: {
    binaryType: "arraybuffer",
    data(_socket, chunk) {
      // expect TS2339: Property 'readUInt8' does not exist on type 'ArrayBuffer'.
      chunk.readUInt8(0);
      chunk.slice(0);
    },
  },
});
listen({ port: 0, socket: { data: (_socket, chunk) => void chunk.readUInt8(0) } });

// There is no such type of chunk.
// expect TS2322: Type '"blob"' is not assignable to type '"buffer"'.
export const wrongType: SocketHandler = { binaryType: "blob" };
export const rightType: SocketHandler = { binaryType: "buffer" };

// A listener on a port has one, on a path it has none.
const port = listen({ port: 0, socket: { data() {} } });
port.port.toFixed();
port.hostname.toUpperCase();
const path = listen({ unix: "path", socket: { data() {} } });
// expect TS18048: 'path.port' is possibly 'undefined'.
path.port.toFixed();
path.unix.toUpperCase();

// TLS is not there.
// expect TS2769: No overload matches this call.
listen({ port: 0, tls: true, socket: { data() {} } });
listen({ port: 0, tls: false, socket: { data() {} } });

// A socket knows its listener, and what kind of sockets that has.
declare const accepted: Socket<Session>;
// expect TS18048: 'accepted.listener' is possibly 'undefined'.
accepted.listener.stop();
accepted.listener?.data.name.toUpperCase();

// reload keeps the type of `data`.
declare const socket: Socket<Session>;
socket.reload({
  socket: {
    // expect TS2551: Property 'nam' does not exist on type 'Session'. Did you mean 'name'?
    data: (one) => void one.data.nam,
  },
});
socket.reload({ socket: { data: (one) => void one.data.name } });

// What is iterated and streamed is bytes.
for await (const chunk of socket) {
  // expect TS2339: Property 'foo' does not exist on type
  chunk.foo;
  chunk.readUInt8(0);
}
// expect TS2345: Argument of type 'number' is not assignable to parameter of type
void socket.writable.getWriter().write(7);
void socket.writable.getWriter().write("7");
