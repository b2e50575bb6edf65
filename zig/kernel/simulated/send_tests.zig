//! Tests of the simulated kernel by itself: linked and zero-copy sends, as the real kernel was seen
//! to do them. The names of the tests are the rows of that list.

const std = @import("std");
const system = @import("../linux.zig");
const simulated = @import("../simulated.zig");
const Bench = @import("tests.zig").Bench;
const peers = simulated.peers;
const Cqe = system.Cqe;
const errno = system.errno;
const wait_all = system.socket_flag.wait_all;
const more = system.cqe_flag.more;
const notification = system.cqe_flag.notification;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// Longer than any stream of these tests takes at once.
const long: [256]u8 = @splat('l');
const small: simulated.Limits = .{ .stream_bytes = 64 };

fn open(seed: u64, faults: simulated.Faults) !Bench {
    var bench: Bench = try .open(.{ .seed = seed, .limits = small, .faults = faults });
    try bench.connection();
    return bench;
}

fn close(bench: *Bench) !void {
    const violation = bench.kernel.violation;
    bench.close();
    try expectEqual(@as(?[]const u8, null), violation);
}

fn send_linked(bench: *Bench, bytes: []const u8, flags: u32, user_data: u64) void {
    bench.send(bytes, flags, user_data);
    bench.kernel.sqes[last(bench)].flags = system.sqe_flag.io_link;
}

fn last(bench: *const Bench) usize {
    const kernel = bench.kernel;
    return (kernel.sq_head + kernel.sq_count - 1) % kernel.sqes.len;
}

fn send_zero_copy(bench: *Bench, fd: i32, bytes: []const u8, user_data: u64) *system.Sqe {
    const sqe = bench.put(.SEND_ZC, fd, user_data);
    sqe.addr = @intFromPtr(bytes.ptr);
    sqe.len = @intCast(bytes.len);
    sqe.rw_flags = wait_all;
    return sqe;
}

fn cancel(bench: *Bench, target: u64) !void {
    bench.put(.ASYNC_CANCEL, -1, 99).addr = target;
}

/// All that the peer can have now.
fn drain(bench: *Bench, out: []u8) usize {
    return peers.receive(&bench.kernel.network, bench.peer, out);
}

/// Nothing completes although time passes.
const expect_idle = Bench.expect_idle;

test "K1: a short send without WAITALL does not break its chain" {
    for ([_]bool{ false, true }) |zero_copy| {
        for (0..20) |seed| {
            var bench = try open(seed, .{});
            if (zero_copy) {
                const sqe = send_zero_copy(&bench, bench.fd, &long, 1);
                sqe.rw_flags = 0;
                sqe.flags = system.sqe_flag.io_link;
            } else send_linked(&bench, &long, 0, 1);
            bench.send("tail", wait_all, 2);
            var out: [64]u8 = undefined;
            const head = try bench.take();
            try expect(head.res > 0 and head.res < long.len);
            var got: [2 * long.len]u8 = undefined;
            var count: usize = 0;
            var ended = false;
            for (0..200) |_| {
                const part = drain(&bench, &out);
                @memcpy(got[count..][0..part], out[0..part]);
                count += part;
                _ = bench.kernel.enter(1, 1);
                for (bench.kernel.cqes()) |cqe| ended = ended or cqe.user_data == 2;
                bench.kernel.advance(@intCast(bench.kernel.cqes().len));
            }
            try expect(ended);
            // The hole that WAITALL is there to prevent.
            const sent: usize = @intCast(head.res);
            try std.testing.expectEqualStrings("tail", got[sent..count]);
            try close(&bench);
        }
    }
}

test "K2 and K3: a stalled WAITALL send, cancelled, tells how far it came and ends its chain" {
    for (0..20) |seed| {
        var bench = try open(seed, .{});
        send_linked(&bench, &long, wait_all, 1);
        bench.send("tail", wait_all, 2);
        try expect_idle(&bench);
        try cancel(&bench, 1);
        var results: [100]i32 = @splat(1);
        for (0..3) |_| {
            const cqe = try bench.take();
            results[cqe.user_data] = cqe.res;
        }
        try expectEqual(@as(i32, 0), results[99]);
        try expect(results[1] > 0 and results[1] < long.len);
        try expectEqual(errno.canceled, results[2]);
        var out: [long.len]u8 = undefined;
        try expectEqual(@as(usize, @intCast(results[1])), drain(&bench, &out));
        try close(&bench);
    }
}

test "K3: after RST the head is short without an error, which the next operation hears" {
    for (0..20) |seed| {
        var bench = try open(seed, .{});
        send_linked(&bench, &long, wait_all, 1);
        bench.send("tail", wait_all, 2);
        try expect_idle(&bench);
        peers.reset(&bench.kernel.network, bench.peer);
        const head = try bench.take();
        try expectEqual(@as(u64, 1), head.user_data);
        try expect(head.res > 0 and head.res < long.len);
        _ = try bench.expect_next(2, errno.canceled);
        bench.send("next", wait_all, 3);
        // The head's own attempt may have heard it already.
        const next = try bench.take();
        try expect(next.res == errno.connreset or next.res == errno.pipe);
        try close(&bench);
    }
}

test "K6: a zero-copy send that fails promises a notification all the same" {
    for (0..20) |seed| {
        var bench = try open(seed, .{});
        const closed = send_zero_copy(&bench, 77, "bytes", 1);
        closed.ioprio = system.sqe_flag.report_usage;
        try expectEqual(more, try bench.expect_next(1, errno.badf));
        try expectEqual(notification, try bench.expect_next(1, 0));
        bench.put(.SHUTDOWN, bench.fd, 2).len = system.socket_flag.shut_write;
        _ = try bench.expect_next(2, 0);
        _ = send_zero_copy(&bench, bench.fd, "bytes", 3);
        try expectEqual(more, try bench.expect_next(3, errno.pipe));
        try expectEqual(notification, try bench.expect_next(3, 0));
        _ = send_zero_copy(&bench, bench.fd, "", 4); // nothing to send
        try expectEqual(more, try bench.expect_next(4, 0));
        try expectEqual(notification, try bench.expect_next(4, 0));
        try expect_idle(&bench);
        try close(&bench);
    }
}

test "K7: a zero-copy member of a broken chain gets a notification that nobody promised" {
    var bench = try open(1, .{});
    send_zero_copy(&bench, 77, "head", 1).flags = system.sqe_flag.io_link;
    _ = send_zero_copy(&bench, bench.fd, "tail", 2);
    var flags: [3][2]u32 = @splat(@splat(0));
    var count: [3]usize = @splat(0);
    for (0..4) |_| {
        const cqe = try bench.take();
        flags[cqe.user_data][count[cqe.user_data]] = cqe.flags;
        count[cqe.user_data] += 1;
        if (cqe.flags != notification) {
            const expected = if (cqe.user_data == 1) errno.badf else errno.canceled;
            try expectEqual(expected, cqe.res);
        }
    }
    try expectEqual([2]u32{ more, notification }, flags[1]);
    try expectEqual([2]u32{ 0, notification }, flags[2]);
    try expectEqual(@as(u64, 1), bench.kernel.outcomes.get(.notification, .cancelled));
    try expect_idle(&bench);
    try close(&bench);
}

test "K8: the notification comes when the peer has taken everything, and outlives the connection" {
    for ([_]bool{ false, true }) |cancelled| {
        for (0..20) |seed| {
            var bench = try open(seed, .{});
            const bytes = if (cancelled) &long else long[0..1];
            _ = send_zero_copy(&bench, bench.fd, bytes, 1);
            if (cancelled) {
                try expect_idle(&bench);
                try cancel(&bench, 1);
            }
            var result: ?Cqe = null;
            for (0..@as(usize, if (cancelled) 2 else 1)) |_| {
                const cqe = try bench.take();
                if (cqe.user_data == 1) result = cqe;
            }
            try expectEqual(more, result.?.flags);
            try expect(result.?.res > 0);
            bench.kernel.close_fd(bench.fd);
            try expect_idle(&bench); // the connection is gone, the memory is not free
            var out: [64]u8 = undefined;
            var got: usize = 0;
            while (got < result.?.res) : (got += drain(&bench, out[0..1])) {
                try expectEqual(@as(usize, 0), bench.kernel.cqes().len);
                _ = bench.kernel.enter(0, 0);
            }
            try expectEqual(notification, try bench.expect_next(1, 0));
            try close(&bench);
        }
    }
}

test "a notification comes when the peer resets: nobody reads the bytes any more" {
    var bench = try open(3, .{});
    _ = send_zero_copy(&bench, bench.fd, "bytes", 1);
    var out: [1]u8 = undefined;
    while (bench.kernel.cqes().len == 0) { // a small stream
        _ = bench.kernel.enter(1, 1);
        _ = drain(&bench, &out);
    }
    try expectEqual(more, try bench.expect_next(1, 5));
    peers.reset(&bench.kernel.network, bench.peer);
    try expectEqual(notification, try bench.expect_next(1, 0));
    try close(&bench);
}

test "what was copied after all is notified at once, and says so where that was asked" {
    for ([_]bool{ false, true }) |reports| {
        var bench = try open(4, .{ .copied = 1000 });
        const sqe = send_zero_copy(&bench, bench.fd, "b", 1);
        if (reports) sqe.ioprio = system.sqe_flag.report_usage;
        try expectEqual(more, try bench.expect_next(1, 1));
        const usage = if (reports) system.notification_copied else 0;
        try expectEqual(notification, try bench.expect_next(1, usage));
        try close(&bench);
    }
    try expectEqual(@as(i32, std.math.minInt(i32)), system.notification_copied);
}

test "notifications come late and in any order" {
    var swapped: u32 = 0;
    for (0..60) |seed| {
        var bench = try open(seed, .{ .copied = 500, .notify_late = 500 });
        const memory = [3][1]u8{ "a".*, "b".*, "c".* };
        var out: [64]u8 = undefined;
        for (&memory, 0..) |*bytes, i| {
            _ = send_zero_copy(&bench, bench.fd, bytes, i);
            while (bench.kernel.outcomes.get(.send_zero_copy, .full) <= i) {
                _ = bench.kernel.enter(0, 0);
                _ = drain(&bench, &out);
            }
        }
        var order: [3]u64 = undefined;
        var count: usize = 0;
        while (count < 3) {
            _ = drain(&bench, &out);
            const cqe = try bench.take();
            if (cqe.flags != notification) continue;
            order[count] = cqe.user_data;
            count += 1;
        }
        if (order[0] > order[1] or order[1] > order[2]) swapped += 1;
        try close(&bench);
    }
    try expect(swapped > 10 and swapped < 60);
}

test "memory that changes between the result and the notification is found" {
    for ([_]bool{ false, true }) |at_close| {
        var bench = try open(5, .{});
        var bytes = "bytes".*;
        _ = send_zero_copy(&bench, bench.fd, &bytes, 1);
        var out: [64]u8 = undefined;
        // So far that the last byte is on its way.
        while (bench.kernel.outcomes.get(.send_zero_copy, .full) == 0) {
            _ = drain(&bench, out[0..1]);
            _ = bench.kernel.enter(0, 0);
        }
        try expectEqual(@as(?[]const u8, null), bench.kernel.violation);
        bytes[0] = 'x';
        if (!at_close) {
            while (drain(&bench, &out) > 0) {}
            _ = try bench.take();
            _ = try bench.take();
        }
        bench.kernel.close();
        const found = bench.kernel.violation != null;
        bench.kernel.destroy();
        try expect(found);
    }
}

test "SENDMSG_ZC gathers, and SEND_ZC of a registered buffer stays within it" {
    var bench = try open(6, .{ .copied = 1000 });
    const parts = [2]system.Iovec{ .{ .base = "a", .len = 1 }, .{ .base = "bc", .len = 2 } };
    var header = std.mem.zeroes(system.MessageHeader);
    header.iov = &parts;
    header.iovlen = parts.len;
    const message = bench.put(.SENDMSG_ZC, bench.fd, 1);
    message.addr = @intFromPtr(&header);
    message.len = 1;
    message.rw_flags = wait_all;
    var out: [8]u8 = undefined;
    var got: usize = 0;
    for (0..100) |_| {
        _ = bench.kernel.enter(1, 1);
        got += drain(&bench, out[got..]);
    }
    try std.testing.expectEqualStrings("abc", out[0..got]);
    try expectEqual(more, try bench.expect_next(1, 3));
    try expectEqual(notification, try bench.expect_next(1, 0));
    var memory: [8]u8 = @splat('m');
    try expectEqual(@as(i32, 0), bench.kernel.buffers_register(1));
    try expectEqual(@as(i32, 0), bench.kernel.buffer_set(0, memory[0..4]));
    for ([_]usize{ 1, 5 }, [_]i32{ 1, errno.fault }) |len, result| {
        const sqe = send_zero_copy(&bench, bench.fd, memory[0..len], 2);
        sqe.ioprio = system.sqe_flag.fixed_buffer;
        const promised: u32 = if (result > 0) more else 0; // refused before it promised anything
        try expectEqual(promised, try bench.expect_next(2, result));
        if (result > 0) try expectEqual(notification, try bench.expect_next(2, 0));
    }
    try close(&bench);
}

test "a one-shot receive into private memory takes what there is, or with WAITALL everything" {
    for (0..20) |seed| {
        var bench = try open(seed, .{});
        const network = &bench.kernel.network;
        var memory: [8]u8 = undefined;
        for ([_]u32{ 0, wait_all }) |flags| {
            const sqe = bench.put(.RECV, bench.fd, 1);
            sqe.addr = @intFromPtr(&memory);
            sqe.len = memory.len;
            sqe.rw_flags = flags;
            try expect_idle(&bench);
            var sent: usize = 0;
            while (sent < memory.len and (flags != 0 or sent == 0)) {
                sent += peers.send(network, bench.peer, "12345678"[sent..]);
                if (sent < memory.len and flags != 0) try expect_idle(&bench);
            }
            const cqe = try bench.take();
            const count: usize = @intCast(cqe.res);
            if (flags != 0) try expectEqual(memory.len, count) else try expect(count > 0);
            try std.testing.expectEqualStrings("12345678"[0..count], memory[0..count]);
            while (network.receive_state(network.find(bench.fd).?) == .done) {
                var rest: [8]u8 = undefined;
                _ = network.receive(network.find(bench.fd).?, &rest);
            }
        }
        try close(&bench);
    }
}

test "a one-shot receive with BUFFER_SELECT takes one buffer and ends" {
    var bench = try open(7, .{});
    var ring: [4096]u8 align(4096) = undefined;
    var memory: [2][4]u8 = undefined;
    try expectEqual(@as(i32, 0), bench.kernel.buffer_ring_register(.stream, &ring, 2));
    for (&memory, 0..) |*bytes, id| {
        bench.kernel.buffer_ring_add(.stream, bytes, @intCast(id));
    }
    bench.kernel.buffer_ring_publish(.stream);
    for (0..2) |id| {
        while (peers.send(&bench.kernel.network, bench.peer, "x") == 0) {}
        const sqe = bench.put(.RECV, bench.fd, 1);
        sqe.flags = system.sqe_flag.buffer_select;
        const flags = try bench.expect_next(1, 1);
        try expectEqual(@as(u32, @intCast(id)), flags >> system.cqe_flag.buffer_shift);
        try expectEqual(@as(u32, 0), flags & more);
        try expectEqual(@as(u8, 'x'), memory[id][0]);
    }
    bench.put(.RECV, bench.fd, 2).flags = system.sqe_flag.buffer_select;
    _ = try bench.expect_next(2, errno.nobufs); // K9: at once, with nothing to read
    try close(&bench);
}
