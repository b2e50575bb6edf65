//! What the real kernel does with linked and zero-copy sends, row by row, and what `send_chain.zig`
//! makes of it. The simulated kernel has the same rows under the same names.
//!
//! Over TCP on loopback. A kernel without zero-copy sends (before 6.0, 6.1) leaves their rows out,
//! and says so.

const std = @import("std");
const system = @import("linux.zig");
const abi = @import("../abi.zig");
const Chain = @import("../send_chain.zig").Chain;
const Uring = @import("uring.zig").Uring;
const linux = std.os.linux;
const errno = system.errno;
const wait_all = system.socket_flag.wait_all;
const no_signal = system.socket_flag.no_signal;
const more = system.cqe_flag.more;
const notification = system.cqe_flag.notification;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// More than both ends of a connection take.
const long_size = 16 * 1024 * 1024;

const Bench = struct {
    ring: Uring,
    /// The end that sends, and the one that reads, or does not.
    fd: i32,
    peer: i32,
    long: []u8,
    buffer: []u8,

    fn open() !Bench {
        const ring = switch (Uring.open(.{
            .entries = 16,
            .cq_entries = 64,
            .features = std.EnumSet(abi.Feature).initEmpty(),
        })) {
            .ring => |ring| ring,
            .refused => return error.NoRing,
        };
        const listener = try made(linux.socket(linux.AF.INET, linux.SOCK.STREAM, 0));
        defer system.close(listener);
        var address: linux.sockaddr.in = .{ .port = 0, .addr = 0x0100007f };
        var len: u32 = @sizeOf(linux.sockaddr.in);
        _ = try made(linux.bind(listener, @ptrCast(&address), len));
        _ = try made(linux.listen(listener, 1));
        _ = try made(linux.getsockname(listener, @ptrCast(&address), &len));
        const peer = try made(linux.socket(linux.AF.INET, linux.SOCK.STREAM, 0));
        _ = try made(linux.connect(peer, @ptrCast(&address), len));
        const fd = try made(linux.accept4(listener, null, null, 0));
        const long = try std.testing.allocator.alloc(u8, long_size);
        for (long, 0..) |*byte, at| byte.* = @truncate(at *% 31 +% at / 251);
        const buffer = try std.testing.allocator.alloc(u8, long_size + 64);
        return .{ .ring = ring, .fd = fd, .peer = peer, .long = long, .buffer = buffer };
    }

    fn made(raw: usize) !i32 {
        const result = system.result(raw);
        return if (result < 0) error.SystemCall else result;
    }

    fn close(bench: *Bench) void {
        if (bench.peer >= 0) system.close(bench.peer);
        system.close(bench.fd);
        bench.ring.close();
        std.testing.allocator.free(bench.long);
        std.testing.allocator.free(bench.buffer);
    }

    fn send(
        bench: *Bench,
        opcode: system.Op,
        bytes: []const u8,
        flags: u32,
        user_data: u64,
    ) *system.Sqe {
        const sqe = bench.ring.sqe().?;
        sqe.opcode = opcode;
        sqe.fd = bench.fd;
        sqe.addr = @intFromPtr(bytes.ptr);
        sqe.len = @intCast(bytes.len);
        sqe.rw_flags = flags | no_signal;
        sqe.user_data = user_data;
        return sqe;
    }

    fn link(bench: *Bench, opcode: system.Op, bytes: []const u8, flags: u32, user_data: u64) void {
        bench.send(opcode, bytes, flags, user_data).flags |= system.sqe_flag.io_link;
    }

    fn cancel(bench: *Bench, target: u64, user_data: u64) void {
        const sqe = bench.ring.sqe().?;
        sqe.opcode = .ASYNC_CANCEL;
        sqe.fd = -1;
        sqe.addr = target;
        sqe.user_data = user_data;
    }

    /// The next completion, or null after a while.
    fn take(bench: *Bench) ?system.Cqe {
        for (0..20) |_| {
            const waiting = bench.ring.cqes();
            if (waiting.len > 0) {
                const cqe = waiting[0];
                bench.ring.advance(1);
                return cqe;
            }
            _ = bench.ring.enter(1, 10);
        }
        return null;
    }

    fn expect_next(bench: *Bench, user_data: u64) !system.Cqe {
        const cqe = bench.take() orelse return error.NothingCompleted;
        try expectEqual(user_data, cqe.user_data);
        return cqe;
    }

    /// Reads until nothing comes for a while: the number of bytes.
    fn drain(bench: *Bench, enough: usize) usize {
        var count: usize = 0;
        while (count < enough) {
            const raw = linux.recvfrom(
                bench.peer,
                bench.buffer[count..].ptr,
                enough - count,
                linux.MSG.DONTWAIT,
                null,
                null,
            );
            const result = system.result(raw);
            if (result == errno.again) {
                _ = bench.ring.enter(0, 0); // a send that waits for room goes on
                continue;
            }
            if (result <= 0) break;
            count += @intCast(result);
        }
        return count;
    }

    fn lends(bench: *const Bench) bool {
        if (bench.ring.supports(.SEND_ZC) and bench.ring.supports(.SENDMSG_ZC)) return true;
        std.debug.print("no zero-copy sends in this kernel: a row is left out\n", .{});
        return false;
    }
};

test "K1: a short send without WAITALL does not break its chain" {
    for ([_]system.Op{ .SEND, .SEND_ZC }) |opcode| {
        var bench: Bench = try .open();
        defer bench.close();
        if (opcode == .SEND_ZC and !bench.lends()) return;
        bench.link(opcode, bench.long, 0, 1);
        _ = bench.send(.SEND, "tail", wait_all, 2);
        _ = bench.ring.enter(0, 0);
        const head = try bench.expect_next(1);
        try expect(head.res > 0 and head.res < long_size);
        const sent: usize = @intCast(head.res);
        // Right behind what was sent of the head, there is the tail: a hole in the stream.
        try expectEqual(sent + 4, bench.drain(sent + 4));
        try std.testing.expectEqualStrings("tail", bench.buffer[sent..][0..4]);
        var chain: Chain = .{};
        const first = chain.start(2, long_size + 4);
        _ = chain.on_operation(first, long_size, head.res, false);
        while (bench.take()) |cqe| {
            if (cqe.flags & notification != 0) continue;
            try expectEqual(@as(u64, 2), cqe.user_data);
            _ = chain.on_operation(first + 1, 4, cqe.res, false);
            break;
        }
        try expect(chain.has_hole());
    }
}

test "K2: with WAITALL a head that gives up is short, and its tail cancelled" {
    var bench: Bench = try .open();
    defer bench.close();
    bench.link(.SEND, bench.long, wait_all | system.socket_flag.dont_wait, 1);
    _ = bench.send(.SEND, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    const head = try bench.expect_next(1);
    try expect(head.res > 0 and head.res < long_size);
    try expectEqual(errno.canceled, (try bench.expect_next(2)).res);
    const sent: usize = @intCast(head.res);
    try expectEqual(sent, bench.drain(sent));
    try expect(std.mem.eql(u8, bench.long[0..sent], bench.buffer[0..sent]));
    var chain: Chain = .{};
    const first = chain.start(2, long_size + 4);
    _ = chain.on_operation(first, long_size, head.res, false);
    _ = chain.on_operation(first + 1, 4, errno.canceled, false);
    try expect(chain.cause() == .short and !chain.has_hole());
}

test "K2: with WAITALL a blocked chain goes on as the peer reads" {
    var bench: Bench = try .open();
    defer bench.close();
    bench.link(.SEND, bench.long, wait_all, 1);
    _ = bench.send(.SEND, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    try expectEqual(@as(usize, long_size + 4), bench.drain(long_size + 4));
    try expectEqual(@as(i32, long_size), (try bench.expect_next(1)).res);
    try expectEqual(@as(i32, 4), (try bench.expect_next(2)).res);
    try expect(std.mem.eql(u8, bench.long, bench.buffer[0..long_size]));
}

test "K3: a stalled head that is cancelled says exactly what it sent" {
    var bench: Bench = try .open();
    defer bench.close();
    bench.link(.SEND, bench.long, wait_all, 1);
    _ = bench.send(.SEND, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    bench.cancel(1, 3);
    var results = [_]?i32{null} ** 4;
    for (0..3) |_| {
        const cqe = bench.take() orelse return error.NothingCompleted;
        results[cqe.user_data] = cqe.res;
    }
    try expectEqual(@as(?i32, 0), results[3]);
    try expectEqual(@as(?i32, errno.canceled), results[2]);
    const sent: usize = @intCast(results[1].?);
    try expect(sent > 0 and sent < long_size);
    try expectEqual(sent, bench.drain(sent));
    _ = bench.send(.SEND, "next", wait_all, 4);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(i32, 4), (try bench.expect_next(4)).res);
    try expectEqual(@as(usize, 4), bench.drain(4));
    try std.testing.expectEqualStrings("next", bench.buffer[0..4]);
}

test "K3: after the peer's reset the head is short, and the next operation hears why" {
    var bench: Bench = try .open();
    defer bench.close();
    bench.link(.SEND, bench.long, wait_all, 1);
    _ = bench.send(.SEND, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    system.close(bench.peer); // with unread bytes: RST
    bench.peer = -1;
    const head = try bench.expect_next(1);
    try expect(head.res > 0 and head.res < long_size);
    try expectEqual(errno.canceled, (try bench.expect_next(2)).res);
    _ = bench.send(.SEND, "next", wait_all, 3);
    _ = bench.ring.enter(0, 0);
    const next = (try bench.expect_next(3)).res;
    try expect(next == errno.connreset or next == errno.pipe);
}

test "K4: a member that has not started is not found by a cancel" {
    var bench: Bench = try .open();
    defer bench.close();
    bench.link(.SEND, bench.long, wait_all, 1);
    _ = bench.send(.SEND, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    bench.cancel(2, 3);
    _ = bench.ring.enter(0, 0);
    try expectEqual(errno.noent, (try bench.expect_next(3)).res);
    bench.cancel(1, 3);
    for (0..3) |_| _ = bench.take() orelse return error.NothingCompleted;
}

test "K5: closing the descriptor ends nothing" {
    var bench: Bench = try .open();
    defer bench.close();
    _ = bench.send(.SEND, bench.long, wait_all, 1);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    system.close(bench.fd);
    bench.fd = try Bench.made(linux.socket(linux.AF.INET, linux.SOCK.STREAM, 0));
    try expectEqual(@as(?system.Cqe, null), bench.take());
    bench.cancel(1, 2);
    for (0..2) |_| _ = bench.take() orelse return error.NothingCompleted;
}

test "K6: a zero-copy send that fails has promised a notification all the same" {
    var bench: Bench = try .open();
    defer bench.close();
    if (!bench.lends()) return;
    _ = linux.shutdown(bench.fd, linux.SHUT.WR);
    _ = bench.send(.SEND_ZC, "bytes", wait_all, 1);
    _ = bench.ring.enter(0, 0);
    const result = try bench.expect_next(1);
    try expectEqual(errno.pipe, result.res);
    try expectEqual(more, result.flags & (more | notification));
    const notified = try bench.expect_next(1);
    try expectEqual(notification, notified.flags & (more | notification));
    var chain: Chain = .{};
    const place = chain.start(1, 5);
    try expectEqual(.all_operations_complete, chain.on_operation(place, 5, result.res, true));
    try expectEqual(.complete, chain.on_notification(place));
}

test "K7: a zero-copy member that its chain takes along is notified of unpromised" {
    var bench: Bench = try .open();
    defer bench.close();
    if (!bench.lends()) return;
    bench.link(.SEND, bench.long, wait_all | system.socket_flag.dont_wait, 1);
    _ = bench.send(.SEND_ZC, "tail", wait_all, 2);
    _ = bench.ring.enter(0, 0);
    const head = try bench.expect_next(1);
    try expect(head.res > 0 and head.res < long_size);
    var chain: Chain = .{};
    const first = chain.start(2, long_size + 4);
    _ = chain.on_operation(first, long_size, head.res, false);
    var notifications: u32 = 0;
    while (bench.take()) |cqe| {
        try expectEqual(@as(u64, 2), cqe.user_data);
        if (cqe.flags & notification != 0) {
            notifications += 1;
            _ = chain.on_notification(first + 1);
        } else {
            try expectEqual(errno.canceled, cqe.res);
            const promised = cqe.flags & more != 0;
            _ = chain.on_operation(first + 1, 4, cqe.res, promised);
        }
    }
    // Whatever a kernel does of the two, every notification is accounted for.
    try expectEqual(@as(u32, 0), chain.notifications_pending());
    try expect(chain.strays == notifications or notifications == 1);
}

test "K8: the notification comes when the peer has read, cancelled or not" {
    var bench: Bench = try .open();
    defer bench.close();
    if (!bench.lends()) return;
    _ = bench.send(.SEND_ZC, bench.long, wait_all, 1);
    _ = bench.ring.enter(0, 0);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    bench.cancel(1, 2);
    var sent: usize = 0;
    for (0..2) |_| {
        const cqe = bench.take() orelse return error.NothingCompleted;
        if (cqe.user_data == 2) continue;
        try expectEqual(more, cqe.flags & (more | notification));
        sent = @intCast(cqe.res);
    }
    try expect(sent > 0 and sent < long_size);
    try expectEqual(@as(?system.Cqe, null), bench.take());
    try expectEqual(sent, bench.drain(sent));
    const notified = try bench.expect_next(1);
    try expectEqual(notification, notified.flags & (more | notification));
}
