//! The limit: a TCP echo server on a bare ring, without JavaScript, libc or liburing.
//!
//! It uses what the kernel offers to the cheapest echo: multishot accept into direct descriptors,
//! multishot receive into a provided-buffer ring, and sends that leave no completion when they
//! worked. What a JavaScript server costs above this program is the price of JavaScript.
//!
//! Usage: `raw_uring PORT [MESSAGE_SIZE]` (port 0 = any free one). Prints `listening PORT`. Linux
//! 6.0 or newer. The message size, 64 if not given, only chooses the receive buffers: any size is
//! echoed.
//!
//! A send carries MSG_DONTWAIT, so it ends inside the enter that submits it: in full (silent), or
//! short, or refused (with a completion). Its buffer is therefore free once that enter's
//! completions were read. A refused or short send is repeated without MSG_DONTWAIT, and what
//! arrives meanwhile queues behind it: a connection has at most one send in the kernel, so bytes
//! cannot overtake each other.
const std = @import("std");
const thin_ring = @import("thin_ring");
const linux = std.os.linux;
const Ring = thin_ring.Ring;
const BufferRing = thin_ring.BufferRing;

/// One per connection that may be open; a sparse table costs eight bytes an entry.
const max_connections = 8192;
const max_buffers = 4096;
const none = std.math.maxInt(u16);

const Kind = enum(u8) { accept, receive, send, close };

/// idle → quick (one enter long) → idle, or → waiting (polled by the kernel) → idle.
const Sending = enum { idle, quick, waiting };

const Connection = struct {
    /// Received buffers not yet sent in full, oldest first.
    first: u16 = none,
    last: u16 = none,
    sending: Sending = .idle,
    receiving: bool = false,
    parked: bool = false,
    ended: bool = false,
};

const Chunk = struct { next: u16, offset: u32, len: u32 };

const Server = struct {
    ring: Ring,
    buffers: BufferRing,
    listener: i32,
    accept_parked: bool = false,
    connections: [max_connections]Connection,
    chunks: [max_buffers]Chunk,
    /// Buffers that wait for a send. All of them lent means that a receive would find none.
    lent: u32 = 0,
    /// Connections whose quick send is in the enter that is being prepared.
    quick: [max_connections]u32,
    quick_count: u32 = 0,
    /// A silent send wakes nobody: when something follows it, the next enter must not wait.
    hurry: bool = false,
    /// Connections that found no buffer; they are armed again when buffers come back.
    parked: [max_connections]u32,
    parked_count: u32 = 0,

    fn run(server: *Server) noreturn {
        server.arm_accept();
        while (true) {
            const starved = server.parked_count > 0 and server.quick_count > 0;
            server.ring.enter(if (server.hurry or starved) 0 else 1, null);
            server.hurry = false;
            // An enter that was pushed back has not run its sends: they would not be finished
            // below.
            while (server.ring.unsubmitted() > 0) server.ring.enter(0, null);
            const submitted = server.quick_count;
            const count = server.ring.ready();
            // First the outcomes of our own sends, then the silent ones are known to be done; only
            // then may new data start the next send of a connection.
            for (0..count) |i| server.on_send(server.ring.completion(@intCast(i)));
            server.finish_quick(submitted);
            for (0..count) |i| server.on_other(server.ring.completion(@intCast(i)));
            server.ring.advance(count);
            server.buffers.publish();
            server.unpark();
        }
    }

    fn finish_quick(server: *Server, submitted: u32) void {
        for (server.quick[0..submitted]) |index| {
            const connection = &server.connections[index];
            if (connection.sending != .quick) continue;
            connection.sending = .idle;
            server.drop_first(connection);
            server.next_send(index, .quick);
        }
        const added = server.quick_count - submitted;
        std.mem.copyForwards(u32, server.quick[0..added], server.quick[submitted..][0..added]);
        server.quick_count = added;
    }

    fn on_send(server: *Server, cqe: *const thin_ring.Cqe) void {
        if (kind_of(cqe.user_data) != .send) return;
        const index = index_of(cqe.user_data);
        const connection = &server.connections[index];
        const was = connection.sending;
        connection.sending = .idle;
        const chunk = &server.chunks[connection.first];
        if (cqe.res > 0) chunk.offset += @intCast(cqe.res);
        if (chunk.offset == chunk.len) {
            server.drop_first(connection);
            return server.next_send(index, .waiting);
        }
        const again = cqe.res == -@as(i32, @intFromEnum(linux.E.AGAIN));
        // A polled send with MSG_WAITALL that stops short has met an error on the connection.
        if (was == .quick and (cqe.res > 0 or again)) return server.next_send(index, .waiting);
        while (connection.first != none) server.drop_first(connection);
        connection.ended = true;
        server.close_if_done(index);
    }

    fn on_other(server: *Server, cqe: *const thin_ring.Cqe) void {
        const index = index_of(cqe.user_data);
        switch (kind_of(cqe.user_data)) {
            .accept => server.on_accept(cqe),
            .receive => server.on_receive(index, cqe),
            .close => if (server.accept_parked) server.arm_accept(),
            .send => {},
        }
    }

    fn on_accept(server: *Server, cqe: *const thin_ring.Cqe) void {
        if (cqe.res >= 0) {
            const index: u32 = @intCast(cqe.res);
            server.connections[index] = .{};
            server.arm_receive(index);
        }
        if (cqe.flags & linux.IORING_CQE_F_MORE != 0) return;
        // With a full table the next accept would fail at once: wait for a connection to close.
        if (cqe.res >= 0) server.arm_accept() else server.accept_parked = true;
    }

    fn on_receive(server: *Server, index: u32, cqe: *const thin_ring.Cqe) void {
        const connection = &server.connections[index];
        const more = cqe.flags & linux.IORING_CQE_F_MORE != 0;
        if (!more) connection.receiving = false;
        if (cqe.res > 0) {
            const id: u16 = @intCast(cqe.flags >> linux.IORING_CQE_BUFFER_SHIFT);
            if (connection.ended) {
                server.buffers.give_back(id);
            } else {
                server.append(connection, id, @intCast(cqe.res));
                if (connection.sending == .idle) server.next_send(index, .quick);
                if (connection.first != id) server.hurry = true;
            }
            if (!more) server.arm_receive(index);
        } else if (cqe.res == -@as(i32, @intFromEnum(linux.E.NOBUFS))) {
            server.parked[server.parked_count] = index;
            server.parked_count += 1;
            connection.parked = true;
        } else if (!more) {
            connection.ended = true;
            server.hurry = true;
        }
        if (connection.ended) server.close_if_done(index);
    }

    fn append(server: *Server, connection: *Connection, id: u16, len: u32) void {
        server.chunks[id] = .{ .next = none, .offset = 0, .len = len };
        if (connection.first == none) {
            connection.first = id;
        } else {
            server.chunks[connection.last].next = id;
        }
        connection.last = id;
        server.lent += 1;
    }

    fn drop_first(server: *Server, connection: *Connection) void {
        const id = connection.first;
        connection.first = server.chunks[id].next;
        server.lent -= 1;
        server.buffers.give_back(id);
    }

    fn next_send(server: *Server, index: u32, how: Sending) void {
        const connection = &server.connections[index];
        if (connection.first == none) return server.close_if_done(index);
        const chunk = &server.chunks[connection.first];
        const address = server.buffers.address(connection.first) + chunk.offset;
        const sqe = server.prepare(.SEND, .send, index);
        sqe.addr = @intFromPtr(address);
        sqe.len = chunk.len - chunk.offset;
        sqe.rw_flags = linux.MSG.WAITALL | linux.MSG.NOSIGNAL;
        connection.sending = how;
        if (how == .waiting) return;
        sqe.rw_flags |= linux.MSG.DONTWAIT;
        sqe.flags |= linux.IOSQE_CQE_SKIP_SUCCESS;
        if (chunk.next != none or connection.ended) server.hurry = true;
        server.quick[server.quick_count] = index;
        server.quick_count += 1;
    }

    fn close_if_done(server: *Server, index: u32) void {
        const connection = &server.connections[index];
        if (!connection.ended or connection.first != none) return;
        if (connection.parked) return;
        if (connection.receiving) {
            // The send side failed while the receive is armed: it must end first.
            const sqe = server.prepare(.SHUTDOWN, .close, index);
            sqe.len = linux.SHUT.RDWR;
            return;
        }
        const sqe = server.prepare(.CLOSE, .close, index);
        sqe.fd = 0;
        sqe.flags = 0;
        sqe.splice_fd_in = @intCast(index + 1);
    }

    fn arm_accept(server: *Server) void {
        server.accept_parked = false;
        const sqe = server.prepare(.ACCEPT, .accept, 0);
        sqe.fd = server.listener;
        sqe.flags = 0;
        sqe.ioprio = linux.IORING_ACCEPT_MULTISHOT;
        sqe.splice_fd_in = @bitCast(@as(u32, linux.IORING_FILE_INDEX_ALLOC));
    }

    fn arm_receive(server: *Server, index: u32) void {
        const sqe = server.prepare(.RECV, .receive, index);
        sqe.ioprio = linux.IORING_RECV_MULTISHOT;
        sqe.flags |= linux.IOSQE_BUFFER_SELECT;
        server.connections[index].receiving = true;
    }

    fn unpark(server: *Server) void {
        if (server.parked_count == 0 or server.lent == server.buffers.count) return;
        for (server.parked[0..server.parked_count]) |index| {
            const connection = &server.connections[index];
            connection.parked = false;
            if (connection.ended) server.close_if_done(index) else server.arm_receive(index);
        }
        server.parked_count = 0;
    }

    fn prepare(server: *Server, opcode: linux.IORING_OP, kind: Kind, index: u32) *thin_ring.Sqe {
        const sqe = server.ring.next_sqe();
        sqe.* = std.mem.zeroes(thin_ring.Sqe);
        sqe.opcode = opcode;
        sqe.flags = linux.IOSQE_FIXED_FILE;
        sqe.fd = @intCast(index);
        sqe.user_data = @as(u64, @intFromEnum(kind)) << 32 | index;
        return sqe;
    }
};

fn kind_of(user_data: u64) Kind {
    return @enumFromInt(user_data >> 32);
}

fn index_of(user_data: u64) u32 {
    return @truncate(user_data);
}

fn listen(port: u16) i32 {
    const fd = thin_ring.tcp_socket();
    const on: i32 = 1;
    const reuse = linux.setsockopt(fd, linux.SOL.SOCKET, linux.SO.REUSEADDR, @ptrCast(&on), 4);
    thin_ring.check("SO_REUSEADDR", reuse);
    var address = thin_ring.loopback(port);
    thin_ring.check("bind", linux.bind(fd, @ptrCast(&address), @sizeOf(linux.sockaddr.in)));
    thin_ring.check("listen", linux.listen(fd, 4096));
    var size: linux.socklen_t = @sizeOf(linux.sockaddr.in);
    thin_ring.check("getsockname", linux.getsockname(fd, @ptrCast(&address), &size));
    thin_ring.print("listening {d}\n", .{std.mem.bigToNative(u16, address.port)});
    return fd;
}

/// Too large for a stack; zero pages until used.
var the_server: Server = undefined;

pub fn main(init: std.process.Init.Minimal) void {
    const arguments = init.args.vector;
    if (arguments.len != 2 and arguments.len != 3) {
        thin_ring.fatal("usage: raw_uring PORT [MESSAGE_SIZE]", .{});
    }
    const port = thin_ring.number("PORT", std.mem.span(arguments[1]), 0, 65535);
    const size_text = if (arguments.len == 3) std.mem.span(arguments[2]) else "64";
    const message_size = thin_ring.number("MESSAGE_SIZE", size_text, 1, 1 << 20);
    // Large buffers save a receive and a send for every piece: with 64 connections and eight
    // messages of 16 KiB in flight on each, 2 KiB buffers cost 98 us a message, 64 KiB ones 10 us.
    const large = message_size > 2048;
    const buffer_count: u32 = if (large) 1024 else max_buffers;
    const buffer_size: u32 = if (large) 65536 else 2048;
    const server = &the_server;
    server.ring = Ring.init(4096, 16384);
    server.buffers = BufferRing.init(&server.ring, buffer_count, buffer_size);
    var table = std.mem.zeroes(linux.io_uring_rsrc_register);
    table.nr = max_connections;
    table.flags = linux.IORING_RSRC_REGISTER_SPARSE;
    server.ring.register(.REGISTER_FILES2, &table, @sizeOf(@TypeOf(table)));
    server.accept_parked = false;
    server.lent = 0;
    server.quick_count = 0;
    server.hurry = false;
    server.parked_count = 0;
    server.listener = listen(@intCast(port));
    server.run();
}
