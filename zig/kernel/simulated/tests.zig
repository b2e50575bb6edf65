//! Tests of the simulated kernel by itself: hand-made SQEs, its CQEs, and the peers.
//!
//! They say what the simulator promises; the schedules say what the engine makes of it.

const std = @import("std");
const system = @import("../linux.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const simulated = @import("../simulated.zig");
const peers = simulated.peers;
const Simulated = simulated.Simulated;
const Cqe = system.Cqe;
const errno = system.errno;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

pub const Bench = struct {
    kernel: *Simulated,
    fd: i32 = -1,
    peer: u32 = 0,

    pub fn open(config: simulated.Config) !Bench {
        return .{ .kernel = try .create(std.testing.allocator, config) };
    }

    pub fn close(bench: *Bench) void {
        bench.kernel.close();
        bench.kernel.destroy();
    }

    pub fn put(bench: *Bench, opcode: system.Op, fd: i32, user_data: u64) *system.Sqe {
        const sqe = bench.kernel.sqe().?;
        sqe.opcode = opcode;
        sqe.fd = fd;
        sqe.user_data = user_data;
        return sqe;
    }

    /// The next completion; the test fails if none comes.
    pub fn take(bench: *Bench) !Cqe {
        for (0..1000) |_| {
            const waiting = bench.kernel.cqes();
            if (waiting.len > 0) {
                const cqe = waiting[0];
                bench.kernel.advance(1);
                return cqe;
            }
            _ = bench.kernel.enter(1, 10);
        }
        return error.NothingCompleted;
    }

    pub fn expect_next(bench: *Bench, user_data: u64, result: i32) !u32 {
        const cqe = try bench.take();
        try expectEqual(user_data, cqe.user_data);
        try expectEqual(result, cqe.res);
        return cqe.flags;
    }

    pub fn expect_idle(bench: *Bench) !void {
        for (0..50) |_| _ = bench.kernel.enter(1, 1);
        try expectEqual(@as(usize, 0), bench.kernel.cqes().len);
    }

    fn listen(bench: *Bench) !i32 {
        const any = loopback(0);
        const fd = bench.kernel.socket(&any);
        try expect(fd >= 0);
        try expectEqual(@as(i32, 0), bench.kernel.bind(fd, &any));
        try expectEqual(@as(i32, 0), bench.kernel.listen(fd, 8));
        return fd;
    }

    /// An accepted connection and its peer.
    pub fn connection(bench: *Bench) !void {
        const listener = try bench.listen();
        var name: SocketAddress = undefined;
        try expectEqual(@as(i32, 0), bench.kernel.address(listener, .local, &name));
        bench.peer = peers.connect(&bench.kernel.network, &name).?;
        _ = bench.put(.ACCEPT, listener, 1);
        const cqe = try bench.take();
        try expect(cqe.res > listener);
        bench.fd = cqe.res;
        bench.kernel.close_fd(listener);
    }

    fn receive_multishot(bench: *Bench, user_data: u64) void {
        const sqe = bench.put(.RECV, bench.fd, user_data);
        sqe.flags = system.sqe_flag.buffer_select;
        sqe.ioprio = system.sqe_flag.receive_multishot;
    }

    pub fn send(bench: *Bench, bytes: []const u8, flags: u32, user_data: u64) void {
        const sqe = bench.put(.SEND, bench.fd, user_data);
        sqe.addr = @intFromPtr(bytes.ptr);
        sqe.len = @intCast(bytes.len);
        sqe.rw_flags = flags;
    }
};

fn loopback(port: u16) SocketAddress {
    var address: SocketAddress = .{ .bytes = @splat(0), .len = 16 };
    std.mem.writeInt(u16, address.bytes[0..2], 2, .native);
    std.mem.writeInt(u16, address.bytes[2..4], port, .big);
    return address;
}

const wait_all = system.socket_flag.wait_all;

test "a NOP completes and a full queue gives no entry" {
    var bench: Bench = try .open(.{ .seed = 1, .entries = 2 });
    defer bench.close();
    _ = bench.put(.NOP, -1, 7);
    _ = bench.put(.NOP, -1, 8);
    try expectEqual(@as(?*system.Sqe, null), bench.kernel.sqe());
    try expectEqual(@as(u32, 0), bench.kernel.room());
    _ = try bench.expect_next(7, 0);
    _ = try bench.expect_next(8, 0);
    try expectEqual(@as(u32, 2), bench.kernel.room());
}

test "a time-out fires after its time and can be cancelled before" {
    var bench: Bench = try .open(.{ .seed = 2 });
    defer bench.close();
    const duration: system.Timespec = .{ .sec = 0, .nsec = 50 * std.time.ns_per_ms };
    const before = bench.kernel.now_ns();
    for (0..2) |i| {
        const sqe = bench.put(.TIMEOUT, -1, i);
        sqe.addr = @intFromPtr(&duration);
        sqe.len = 1;
    }
    bench.put(.ASYNC_CANCEL, -1, 9).addr = 1;
    var cancelled: u32 = 0;
    for (0..2) |_| {
        const cqe = try bench.take();
        try expectEqual(if (cqe.user_data == 9) 0 else errno.canceled, cqe.res);
        cancelled += @intFromBool(cqe.user_data != 0);
    }
    try expectEqual(@as(u32, 2), cancelled);
    _ = try bench.expect_next(0, errno.time);
    try expect(bench.kernel.now_ns() - before >= 50 * std.time.ns_per_ms);
}

test "a multishot receive takes buffers in order, says ENOBUFS, and the end after the bytes" {
    var bench: Bench = try .open(.{ .seed = 3 });
    defer bench.close();
    try bench.connection();
    var ring_memory: [4096]u8 align(4096) = undefined;
    try expectEqual(@as(i32, 0), bench.kernel.buffer_ring_register(.stream, &ring_memory, 2));
    var buffers: [2][4]u8 = undefined;
    bench.receive_multishot(5);
    _ = try bench.expect_next(5, errno.nobufs);
    for (0..2) |id| bench.kernel.buffer_ring_add(.stream, &buffers[id], @intCast(id));
    bench.receive_multishot(6);
    _ = try bench.expect_next(6, errno.nobufs); // not published
    bench.kernel.buffer_ring_publish(.stream);
    bench.receive_multishot(6);
    try expectEqual(@as(usize, 6), peers.send(&bench.kernel.network, bench.peer, "abcdef"));
    peers.half_close(&bench.kernel.network, bench.peer);
    var text: [8]u8 = undefined;
    var len: usize = 0;
    var id_next: u16 = 0;
    while (true) {
        const cqe = try bench.take();
        if (cqe.res == 0) {
            try expectEqual(@as(u32, 0), cqe.flags);
            break;
        }
        if (cqe.res == errno.nobufs) {
            bench.receive_multishot(6);
            continue;
        }
        try expect(cqe.flags & system.cqe_flag.more != 0);
        const id: u16 = @intCast(cqe.flags >> system.cqe_flag.buffer_shift);
        try expectEqual(id_next, id);
        id_next = (id_next + 1) % 2;
        const count: usize = @intCast(cqe.res);
        @memcpy(text[len..][0..count], buffers[id][0..count]);
        len += count;
        bench.kernel.buffer_ring_add(.stream, &buffers[id], id);
        bench.kernel.buffer_ring_publish(.stream);
    }
    try std.testing.expectEqualStrings("abcdef", text[0..len]);
    try expectEqual(@as(?[]const u8, null), bench.kernel.violation);
}

test "a send with WAITALL ends whole, cancelled it says how far it came" {
    var bench: Bench = try .open(.{ .seed = 4, .limits = .{ .stream_bytes = 100 } });
    defer bench.close();
    try bench.connection();
    const network = &bench.kernel.network;
    const bytes: [300]u8 = @splat('x');
    bench.send(&bytes, wait_all, 1);
    try bench.expect_idle();
    var taken: usize = 0;
    var out: [300]u8 = undefined;
    for (0..200) |_| {
        taken += peers.receive(network, bench.peer, &out);
        _ = bench.kernel.enter(1, 1);
        if (bench.kernel.cqes().len > 0) break;
    }
    _ = try bench.expect_next(1, 300);
    taken += peers.receive(network, bench.peer, &out);
    try expectEqual(@as(usize, 300), taken);

    bench.send(&bytes, wait_all, 2);
    try bench.expect_idle();
    bench.put(.ASYNC_CANCEL, -1, 3).addr = 2;
    for (0..2) |_| {
        const cqe = try bench.take();
        if (cqe.user_data == 3) try expectEqual(@as(i32, 0), cqe.res) else {
            const arrived = peers.receive(network, bench.peer, &out);
            try expectEqual(@as(usize, @intCast(cqe.res)), arrived);
        }
    }
}

test "closing a descriptor completes nothing that is pending, and its number is reused" {
    var bench: Bench = try .open(.{ .seed = 5 });
    defer bench.close();
    try bench.connection();
    var plain: [8]u8 = undefined;
    const sqe = bench.put(.RECV, bench.fd, 1);
    sqe.addr = @intFromPtr(&plain);
    sqe.len = plain.len;
    try bench.expect_idle();
    _ = bench.put(.CLOSE, bench.fd, 2);
    _ = try bench.expect_next(2, 0);
    try bench.expect_idle();
    try expectEqual(@as(u32, 1), bench.kernel.network.closed_under_operation);
    const any = loopback(0);
    const lowest = bench.kernel.socket(&any);
    try expect(lowest <= bench.fd);
    try expect(!peers.view(&bench.kernel.network, bench.peer).?.ended);
    bench.put(.ASYNC_CANCEL, -1, 3).addr = 1;
    for (0..2) |_| _ = try bench.take();
    try expect(peers.view(&bench.kernel.network, bench.peer).?.ended);
    _ = bench.put(.CLOSE, 77, 4);
    _ = try bench.expect_next(4, errno.badf);
}

test "cancels win, lose, and come too late" {
    var bench: Bench = try .open(.{ .seed = 6, .faults = .{ .cancel_already = 500 } });
    defer bench.close();
    const listener = try bench.listen();
    var won: u32 = 0;
    var late: u32 = 0;
    for (0..100) |_| {
        bench.put(.ACCEPT, listener, 1).ioprio = system.sqe_flag.accept_multishot;
        bench.put(.ASYNC_CANCEL, -1, 2).addr = 1;
        for (0..2) |_| {
            const cqe = try bench.take();
            if (cqe.user_data == 1) try expectEqual(errno.canceled, cqe.res) else {
                won += @intFromBool(cqe.res == 0);
                late += @intFromBool(cqe.res == errno.already);
            }
        }
        bench.put(.ASYNC_CANCEL, -1, 3).addr = 1;
        _ = try bench.expect_next(3, errno.noent);
    }
    try expect(won > 20 and late > 20 and won + late == 100);
    for (0..3) |i| _ = bench.put(.ACCEPT, listener, 10 + i);
    const all = bench.put(.ASYNC_CANCEL, listener, 4);
    all.rw_flags = system.sqe_flag.cancel_all | system.sqe_flag.cancel_fd;
    for (0..4) |_| {
        const cqe = try bench.take();
        try expectEqual(if (cqe.user_data == 4) 3 else errno.canceled, cqe.res);
    }
}

test "CONNECT makes a peer, a shut end is seen by it, and RST is heard once" {
    var bench: Bench = try .open(.{ .seed = 7 });
    defer bench.close();
    const target = loopback(80);
    bench.fd = bench.kernel.socket(&target);
    const sqe = bench.put(.CONNECT, bench.fd, 1);
    sqe.addr = @intFromPtr(&target.bytes);
    sqe.off = target.len;
    _ = try bench.expect_next(1, 0);
    const network = &bench.kernel.network;
    bench.peer = bench.kernel.connected.pop().?;
    try expectEqual(bench.peer, peers.of_descriptor(network, bench.fd).?);
    const parts = [_]system.Iovec{
        .{ .base = "ab", .len = 2 }, .{ .base = "", .len = 0 }, .{ .base = "c", .len = 1 },
    };
    const header: system.MessageHeader = .{
        .name = null,
        .namelen = 0,
        .iov = &parts,
        .iovlen = parts.len,
        .control = null,
        .controllen = 0,
        .flags = 0,
    };
    const message = bench.put(.SENDMSG, bench.fd, 2);
    message.addr = @intFromPtr(&header);
    message.len = 1;
    message.rw_flags = wait_all;
    _ = try bench.expect_next(2, 3);
    bench.put(.SHUTDOWN, bench.fd, 3).len = system.socket_flag.shut_write;
    _ = try bench.expect_next(3, 0);
    var out: [8]u8 = undefined;
    try expect(!peers.view(network, bench.peer).?.ended);
    try std.testing.expectEqualStrings("abc", out[0..peers.receive(network, bench.peer, &out)]);
    try expect(peers.view(network, bench.peer).?.ended);
    bench.send("d", wait_all, 4);
    _ = try bench.expect_next(4, errno.pipe);
    peers.reset(network, bench.peer);
    for ([_]i32{ errno.connreset, 0 }) |result| {
        const receive = bench.put(.RECV, bench.fd, 5);
        receive.addr = @intFromPtr(&out);
        receive.len = out.len;
        _ = try bench.expect_next(5, result);
    }
    try expectEqual(@as(?[]const u8, null), bench.kernel.violation);
}

test "closing with unread bytes resets the peer" {
    var bench: Bench = try .open(.{ .seed = 8 });
    defer bench.close();
    try bench.connection();
    const network = &bench.kernel.network;
    try expectEqual(@as(usize, 1), peers.send(network, bench.peer, "x"));
    _ = bench.put(.CLOSE, bench.fd, 1);
    _ = try bench.expect_next(1, 0);
    try expect(peers.view(network, bench.peer).?.reset);
    peers.reset(network, bench.peer);
    try expectEqual(@as(?peers.View, null), peers.view(network, bench.peer));
}

test "memory that changes before the CQE of its send is found" {
    var bench: Bench = try .open(.{ .seed = 9, .limits = .{ .stream_bytes = 50 } });
    defer bench.close();
    try bench.connection();
    var bytes: [100]u8 = @splat('x');
    bench.send(&bytes, wait_all, 1);
    try bench.expect_idle();
    bytes[0] = 'y';
    var out: [100]u8 = undefined;
    for (0..200) |_| {
        _ = peers.receive(&bench.kernel.network, bench.peer, &out);
        _ = bench.kernel.enter(1, 1);
    }
    _ = try bench.expect_next(1, 100);
    try expect(bench.kernel.violation != null);
}

test "completions that do not fit are kept, counted and delivered in order" {
    var bench: Bench = try .open(.{ .seed = 10, .cq_entries = 4 });
    defer bench.close();
    for (0..30) |i| _ = bench.put(.NOP, -1, i);
    for (0..20) |_| _ = bench.kernel.enter(0, 0);
    try expect(bench.kernel.overflowed() > 0);
    try expect(bench.kernel.ready());
    for (0..30) |i| _ = try bench.expect_next(i, 0);
    try expect(!bench.kernel.ready());
}

test "an enter may be interrupted, refused, or take a part" {
    var bench: Bench = try .open(.{ .seed = 11, .faults = .{
        .enter_interrupted = 500,
        .enter_busy = 200,
        .enter_again = 200,
        .enter_partial = 500,
    } });
    defer bench.close();
    var seen: struct { interrupted: u32 = 0, busy: u32 = 0, again: u32 = 0, part: u32 = 0 } = .{};
    for (0..400) |_| {
        while (bench.kernel.room() > 60) _ = bench.put(.NOP, -1, 1);
        const asked = bench.kernel.queued();
        const taken = bench.kernel.enter(0, 0);
        switch (taken) {
            errno.busy => seen.busy += 1,
            errno.again => seen.again += 1,
            else => seen.part += @intFromBool(taken < asked),
        }
        while (bench.kernel.queued() > 0) _ = bench.kernel.enter(0, 0);
        while (bench.kernel.ready()) {
            bench.kernel.advance(@intCast(bench.kernel.cqes().len));
            _ = bench.kernel.enter(0, 0);
        }
        if (bench.kernel.enter(1, 5) == errno.intr) seen.interrupted += 1;
    }
    inline for (std.meta.fields(@TypeOf(seen))) |field| try expect(@field(seen, field.name) > 20);
}
