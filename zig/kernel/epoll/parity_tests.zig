//! Scripts about the rest that come to the same on the real ring and on the twin.
//!
//! Chains, cancels, time-outs, polls, files and pipes. See `parity_sockets.zig`.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const parity = @import("parity.zig");
const in_page = parity.in_page;
const flag = system.sqe_flag;
const wait_all = system.socket_flag.wait_all;
const large: [1 << 20]u8 = @splat('x');

test "NOPs, chains of them, and what is unknown" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            for (0..3) |i| _ = session.put(.NOP, -1, i);
            try session.expect(3);
            session.put(.NOP, -1, 0).flags = flag.io_link;
            session.put(.FSYNC, 1000, 1).flags = flag.io_link;
            session.put(.NOP, -1, 2).flags = flag.io_hardlink;
            _ = session.put(.NOP, -1, 3);
            try session.expect(4);
            session.put(.FSYNC, 1000, 1).flags = flag.io_hardlink;
            _ = session.put(.NOP, -1, 2);
            try session.expect(2);
            session.put(.NOP, -1, 1).flags = flag.io_link;
            session.put(@enumFromInt(250), -1, 2).flags = flag.io_link;
            _ = session.put(.NOP, -1, 3);
            try session.expect(3);
        }
    });
}

test "a linked member that has not started is not found by a cancel (K4)" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            var out: [8]u8 = undefined;
            session.move(.RECV, ends[0], &out, 1).flags = flag.io_link;
            _ = session.move(.RECV, ends[0], &out, 2);
            try session.expect(0);
            _ = session.cancel(2, 3);
            try session.expect(1);
            _ = session.cancel(1, 3);
            try session.expect(3);
            _ = session.cancel(1, 3);
            try session.expect(1);
        }
    });
}

test "polls: once, and at each change" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            session.put(.POLL_ADD, ends[0], 1).rw_flags = linux.POLL.IN | linux.POLL.OUT;
            try session.expect(1);
            session.put(.POLL_ADD, ends[0], 1).rw_flags = linux.POLL.IN;
            try session.expect(0);
            try session.write(ends[1], "x");
            try session.expect(1);
            const multishot = session.put(.POLL_ADD, ends[0], 2);
            multishot.rw_flags = linux.POLL.IN;
            multishot.len = flag.poll_multishot;
            try session.expect(1);
            try session.write(ends[1], "y");
            try session.expect(1);
            _ = session.put(.POLL_REMOVE, -1, 3);
            const remove = session.put(.POLL_REMOVE, -1, 3);
            remove.addr = 2;
            try session.expect(3);
            _ = session.put(.POLL_ADD, 1000, 4);
            session.put(.POLL_ADD, try session.file("x"), 5).rw_flags = linux.POLL.IN;
            try session.expect(2);
        }
    });
}

test "time-outs expire, are cancelled, and end what is linked behind them" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            _ = session.timeout(.TIMEOUT, 20, 1);
            _ = session.timeout(.TIMEOUT, 10, 2);
            try session.expect(2);
            _ = session.timeout(.TIMEOUT, 1000, 1);
            try session.expect(0);
            _ = session.cancel(1, 2);
            try session.expect(2);
            session.timeout(.TIMEOUT, 1, 1).flags = flag.io_link;
            _ = session.put(.NOP, -1, 2);
            try session.expect(2);
            const fine = session.timeout(.TIMEOUT, 1, 1);
            fine.flags = flag.io_link;
            fine.rw_flags = linux.IORING_TIMEOUT_ETIME_SUCCESS;
            _ = session.put(.NOP, -1, 2);
            try session.expect(2);
            session.timeout(.TIMEOUT, 1, 1).flags = flag.io_hardlink;
            _ = session.put(.NOP, -1, 2);
            try session.expect(2);
            _ = session.timeout(.TIMEOUT, 1000, 1);
            const remove = session.put(.TIMEOUT_REMOVE, -1, 2);
            remove.addr = 1;
            try session.expect(2);
            const wrong = session.timeout(.TIMEOUT, 1, 3);
            wrong.len = 2;
            try session.expect(1);
        }
    });
}

test "a linked time-out ends its operation, or ends with it" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            var out: [8]u8 = undefined;
            for ([_]u8{ flag.io_link, flag.io_hardlink }) |link| {
                session.move(.RECV, ends[0], &out, 1).flags = link;
                session.timeout(.LINK_TIMEOUT, 10, 2).flags = link;
                _ = session.put(.NOP, -1, 3);
                try session.expect(3);
                session.move(.RECV, ends[0], &out, 1).flags = link;
                session.timeout(.LINK_TIMEOUT, 500, 2).flags = link;
                _ = session.put(.NOP, -1, 3);
                try session.expect(0);
                try session.write(ends[1], "in time");
                try session.expect(3);
                try session.write(ends[1], "at once");
                session.move(.RECV, ends[0], &out, 1).flags = link;
                _ = session.timeout(.LINK_TIMEOUT, 500, 2);
                try session.expect(2);
            }
            // A part that was moved is told.
            const stalled = session.move(.SEND, ends[0], &large, 1);
            stalled.flags = flag.io_link;
            stalled.rw_flags = wait_all;
            _ = session.timeout(.LINK_TIMEOUT, 10, 2);
            try session.expect(2);
        }
    });
}

test "reads and writes of files: whole, short at the end, in chains" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const fd = try session.file("0123456789");
            var out: [8]u8 = @splat('.');
            _ = session.move(.READ, fd, &out, 1);
            try session.expect(1);
            try session.say("{s}\n", .{out});
            const short = session.move(.READ, fd, &out, 1);
            short.off = 6;
            short.flags = flag.io_link;
            _ = session.put(.NOP, -1, 2);
            try session.expect(2);
            session.move(.READ, fd, &out, 1).off = 100;
            try session.expect(1);
            session.move(.WRITE, fd, "abc", 2).off = 8;
            try session.expect(1);
            _ = session.move(.READ, 1000, &out, 3);
            try session.expect(1);
            const own = session.move(.WRITE, fd, "own", 1);
            own.off = std.math.maxInt(u64);
            try session.expect(1);
            const parts = in_page(session, [2]system.Iovec, 0);
            parts.* = .{ .{ .base = &out, .len = 2 }, .{ .base = out[4..].ptr, .len = 2 } };
            const vectors = session.put(.READV, fd, 1);
            vectors.addr = @intFromPtr(parts);
            vectors.len = 2;
            try session.expect(1);
        }
    });
}

test "FTRUNCATE (6.9) cuts a file" {
    try parity.compare(struct {
        pub const about: system.Op = .FTRUNCATE;

        pub fn run(session: anytype) !void {
            const fd = try session.file("0123456789");
            session.put(.FTRUNCATE, fd, 1).off = 4;
            try session.expect(1);
            var out: [8]u8 = undefined;
            _ = session.move(.READ, fd, &out, 2);
            try session.expect(1);
        }
    });
}

test "reads and writes of pipes wait, and take what there is" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            const ends = try session.pipe();
            var out: [8]u8 = undefined;
            const read = session.move(.READ, ends[0], &out, 1);
            read.off = std.math.maxInt(u64);
            try session.expect(0);
            session.move(.WRITE, ends[1], "abc", 2).off = std.math.maxInt(u64);
            try session.expect(2);
            const all = session.move(.WRITE, ends[1], large[0..200_000], 3);
            all.off = std.math.maxInt(u64);
            try session.expect(1);
            const more = session.move(.WRITE, ends[1], "more", 4);
            more.off = std.math.maxInt(u64);
            try session.expect(0);
            _ = session.cancel(4, 5);
            try session.expect(2);
            session.forget(ends[1]);
            system.close(ends[1]);
            var rest: [1 << 17]u8 = undefined;
            for (0..2) |_| {
                session.move(.READ, ends[0], &rest, 6).off = std.math.maxInt(u64);
                try session.expect(1);
            }
        }
    });
}

test "path operations, sockets and splices do what their calls do" {
    try parity.compare(struct {
        pub fn run(session: anytype) !void {
            session.makes_descriptor[1] = true;
            const open = session.put(.OPENAT, linux.AT.FDCWD, 1);
            open.addr = @intFromPtr("/dev/null");
            open.rw_flags = flag.open_cloexec;
            try session.expect(1); // a worker of the kernel may open it, while others go on
            const missing = session.put(.OPENAT, linux.AT.FDCWD, 2);
            missing.addr = @intFromPtr("/nowhere/at/all");
            try session.expect(1);
            const make = session.put(.SOCKET, linux.AF.UNIX, 1);
            make.off = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
            try session.expect(1);
            session.forget(session.made[1]);
            _ = session.put(.CLOSE, session.made[1], 3);
            try session.expect(1);
            _ = session.put(.CLOSE, session.made[1], 3);
            try session.expect(1);
            const ends = try session.socket_pair(linux.SOCK.STREAM);
            session.put(.SHUTDOWN, ends[0], 4).len = linux.SHUT.WR;
            try session.expect(1);
            _ = session.move(.SEND, ends[0], "x", 5);
            var out: [4]u8 = undefined;
            _ = session.move(.RECV, ends[1], &out, 6);
            try session.expect(2);
            const pipe = try session.pipe();
            const splice = session.put(.SPLICE, pipe[1], 7);
            splice.splice_fd_in = try session.file("spliced");
            splice.off = std.math.maxInt(u64);
            splice.len = 7;
            try session.expect(1);
            _ = session.move(.READ, pipe[0], &out, 8);
            try session.expect(1);
        }
    });
}
