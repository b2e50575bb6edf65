//! Scripts about sockets that come to the same on the real ring and on the twin.
//!
//! What the kernel does with sends, receives, accepts and connects, step by step; a step ends when
//! its completions are in. What the kernel only does by chance (the order of two that end at once)
//! is no part of a script.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const parity = @import("parity.zig");
const in_page = parity.in_page;
const flag = system.sqe_flag;
const wait_all = system.socket_flag.wait_all;
const large: [1 << 20]u8 = @splat('x');

test "a send without MSG_WAITALL that goes short does not end its chain (K1)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            session.move(.SEND, ends[0], &large, 1).flags = flag.io_link;
            _ = session.move(.SEND, ends[0], "tail", 2);
            try session.expect(1);
            _ = session.drain(ends[1]);
            try session.expect(1);
        }
    });
}

test "a stalled MSG_WAITALL send: cancelled, or its peer gone, it is a part (K2, K3)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            for ([_]bool{ false, true }) |closes| {
                const ends = try session.socket_pair(linux.SOCK.STREAM);
                const head = session.move(.SEND, ends[0], &large, 1);
                head.rw_flags = wait_all;
                head.flags = flag.io_link;
                session.move(.SEND, ends[0], "tail", 2).rw_flags = wait_all;
                try session.expect(0);
                _ = session.drain(ends[1]);
                try session.expect(0);
                if (closes) {
                    session.forget(ends[1]);
                    system.close(ends[1]);
                    try session.expect(2);
                    _ = session.move(.SEND, ends[0], "after", 4);
                    try session.expect(1);
                } else {
                    _ = session.cancel(1, 3);
                    try session.expect(3);
                }
            }
        }
    });
}

test "MSG_WAITALL goes on until all is sent, and received" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            const parts = in_page(session, [3]system.Iovec, 0);
            parts.* = .{
                .{ .base = &large, .len = 100_000 },
                .{ .base = "", .len = 0 },
                .{ .base = &large, .len = 300_000 },
            };
            const header = in_page(session, system.MessageHeader, 256);
            header.* = std.mem.zeroes(system.MessageHeader);
            header.iov = parts;
            header.iovlen = parts.len;
            const send = session.put(.SENDMSG, ends[0], 1);
            send.addr = @intFromPtr(header);
            send.len = 1;
            send.rw_flags = wait_all;
            var read: usize = 0;
            for (0..100) |_| {
                _ = session.kernel.enter(0, 0);
                read += session.drain(ends[1]);
                if (session.kernel.cq_queued() > 0) break;
            }
            try session.expect(1);
            try session.say("read {d}\n", .{read + session.drain(ends[1])});
            var out: [8]u8 = undefined;
            session.move(.RECV, ends[0], &out, 2).rw_flags = wait_all;
            try session.expect(0);
            for ([_][]const u8{ "abc", "de", "fghij" }) |piece| {
                try session.write(ends[1], piece);
                try session.expect(0);
            }
            try session.say("{s}\n", .{out});
            session.move(.RECV, ends[0], &out, 3).rw_flags = wait_all;
            try session.expect(0);
            session.forget(ends[1]);
            system.close(ends[1]);
            try session.expect(1);
        }
    });
}

test "closing a descriptor ends nothing that waits on it (K5)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            var out: [8]u8 = undefined;
            _ = session.move(.RECV, ends[0], &out, 1);
            try session.expect(0);
            session.forget(ends[0]);
            system.close(ends[0]);
            // The number is somebody else's now, and the receive is not his.
            const others = try session.socket_pair(linux.SOCK.STREAM);
            try session.write(others[1], "others");
            try session.expect(0);
            try session.write(ends[1], "mine");
            try session.expect(1);
            try session.say("{s}\n", .{out[0..4]});
        }
    });
}

test "zero-copy sends promise a notification, also when they fail (K6)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.tcp_pair();
            _ = session.move(.SEND_ZC, ends[0], "hello", 1);
            try session.expect(2);
            try session.say("read {d}\n", .{session.drain(ends[1])});
            _ = linux.shutdown(ends[0], linux.SHUT.WR);
            _ = session.move(.SEND_ZC, ends[0], "hello", 2);
            try session.expect(2);
        }
    });
}

test "a multishot receive on an empty buffer ring ends at once (K9)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            try session.provide(.stream, 0);
            _ = session.receive_multishot(ends[0], 1);
            try session.expect(1);
            session.give(.stream, 0, 3);
            _ = session.receive_multishot(ends[0], 1);
            try session.expect(0);
            try session.write(ends[1], "one");
            try session.expect(1);
            // More than the two buffers that are left hold: some kernels look for more only then.
            try session.write(ends[1], "two" ** 50);
            try session.expect(3);
            session.give(.stream, 0, 3);
            _ = session.receive_multishot(ends[0], 2);
            try session.expect(1);
            session.forget(ends[1]);
            system.close(ends[1]);
            try session.expect(1);
            _ = session.receive_multishot(1000, 3);
            _ = session.receive_multishot(try session.file("x"), 4);
            try session.expect(2);
        }
    });
}

test "a single receive takes one buffer, at most as long as asked" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            try session.provide(.stream, 4);
            for ([_]u32{ 0, 3, 500 }) |len| {
                const sqe = session.put(.RECV, ends[0], 1);
                sqe.flags = flag.buffer_select;
                sqe.len = len;
                try session.expect(0);
                try session.write(ends[1], "12345678");
                try session.expect(1);
                _ = session.drain(ends[0]);
            }
        }
    });
}

test "a cancel by descriptor hits one that waits, or all (K14)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            var out: [8]u8 = undefined;
            const by_fd = system.sqe_flag.cancel_fd;
            session.put(.ASYNC_CANCEL, ends[0], 9).rw_flags = by_fd;
            session.put(.ASYNC_CANCEL, ends[0], 9).rw_flags = by_fd | flag.cancel_all;
            session.put(.ASYNC_CANCEL, 1000, 9).rw_flags = by_fd;
            try session.expect(3);
            _ = session.move(.RECV, ends[0], &out, 1);
            try session.expect(0);
            session.put(.ASYNC_CANCEL, ends[0], 9).rw_flags = by_fd;
            try session.expect(2);
            _ = session.move(.RECV, ends[0], &out, 1);
            session.move(.SEND, ends[0], &large, 2).rw_flags = wait_all;
            _ = session.move(.RECV, ends[1], &out, 3);
            try session.expect(1);
            session.put(.ASYNC_CANCEL, ends[0], 9).rw_flags = by_fd | flag.cancel_all;
            try session.expect(3);
        }
    });
}

test "accepts: one, many, an end by shutdown, and what is no listener" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            var address: linux.sockaddr.in = undefined;
            const listener = try session.listener(&address);
            session.makes_descriptor[1] = true;
            const name = in_page(session, linux.sockaddr.in, 0);
            const len = in_page(session, linux.socklen_t, 64);
            len.* = @sizeOf(linux.sockaddr.in);
            const single = session.put(.ACCEPT, listener, 1);
            single.addr = @intFromPtr(name);
            single.off = @intFromPtr(len);
            single.rw_flags = linux.SOCK.CLOEXEC;
            try session.expect(0);
            _ = try session.connect_to(&address);
            try session.expect(1);
            try session.say("{d} {d}\n", .{ name.family, len.* });
            session.put(.ACCEPT, listener, 1).ioprio = flag.accept_multishot;
            for (0..3) |_| _ = try session.connect_to(&address);
            try session.expect(3);
            _ = try session.connect_to(&address);
            try session.expect(1);
            _ = session.cancel(1, 2);
            try session.expect(2);
            session.put(.ACCEPT, listener, 1).ioprio = flag.accept_multishot;
            try session.expect(0);
            _ = linux.shutdown(listener, linux.SHUT.RDWR);
            try session.expect(1);
            _ = session.put(.ACCEPT, try session.file("x"), 3);
            _ = session.put(.ACCEPT, 1000, 4);
            _ = session.put(.ACCEPT, (try session.socket_pair(linux.SOCK.STREAM))[0], 5);
            try session.expect(3);
        }
    });
}

test "connects: made, refused, cancelled and made twice" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const address = in_page(session, linux.sockaddr.in, 0);
            const listener = try session.listener(address);
            const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
            const fd = try session.keep(linux.socket(linux.AF.INET, kind, 0));
            for (0..2) |_| {
                const sqe = session.put(.CONNECT, fd, 1);
                sqe.addr = @intFromPtr(address);
                sqe.off = @sizeOf(linux.sockaddr.in);
                try session.expect(1);
            }
            session.forget(listener);
            system.close(listener);
            const other = try session.keep(linux.socket(linux.AF.INET, kind, 0));
            const refused = session.put(.CONNECT, other, 2);
            refused.addr = @intFromPtr(address);
            refused.off = @sizeOf(linux.sockaddr.in);
            try session.expect(1);
            const none = session.put(.CONNECT, try session.file("x"), 3);
            none.addr = @intFromPtr(address);
            none.off = @sizeOf(linux.sockaddr.in);
            try session.expect(1);
            // The socket blocks as before: nothing that somebody else would see was changed.
            const status = linux.fcntl(fd, linux.F.GETFL, 0);
            try session.say("{d}\n", .{status & 0o4000});
        }
    });
}

test "a multishot recvmsg lays name and payload into its buffer" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.DGRAM);
            try session.provide(.datagram, 3);
            const header = in_page(session, system.MessageHeader, 0);
            header.* = std.mem.zeroes(system.MessageHeader);
            header.namelen = 8;
            const texts = [_][]const u8{ "one", "", "x" ** 60 };
            for (texts, 0..) |text, id| {
                // An empty message has ended it.
                if (id != 1) {
                    const sqe = session.put(.RECVMSG, ends[0], 1);
                    sqe.addr = @intFromPtr(header);
                    sqe.len = 1;
                    sqe.flags = flag.buffer_select;
                    sqe.ioprio = flag.receive_multishot;
                    sqe.buf_index = 1;
                }
                try session.expect(0);
                try session.write(ends[1], text);
                try session.expect(1);
                const bytes = session.page[4096 + 64 * id ..][0..64];
                const out: *align(1) linux.io_uring_recvmsg_out = @ptrCast(bytes.ptr);
                try session.say("{d} {d} {d}\n", .{ out.namelen, out.payloadlen, out.flags });
            }
            try session.write(ends[1], "none left");
            try session.expect(1);
        }
    });
}
