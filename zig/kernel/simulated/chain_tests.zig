//! Tests of the simulated kernel by itself: chains, linked time-outs, files, pipes, registrations.
//! Hand-made SQEs; a bench keeps the results by `user_data`.

const std = @import("std");
const system = @import("../linux.zig");
const simulated = @import("../simulated.zig");
const peers = simulated.peers;
const Simulated = simulated.Simulated;
const errno = system.errno;
const flag = system.sqe_flag;
const expectEqual = std.testing.expectEqual;

const Bench = struct {
    kernel: *Simulated,
    results: [16]?i32 = @splat(null),
    order: [16]u64 = undefined,
    count: usize = 0,

    fn open(seed: u64) !Bench {
        return .{ .kernel = try .create(std.testing.allocator, .{ .seed = seed }) };
    }

    fn close(bench: *Bench) !void {
        const violation = bench.kernel.violation;
        bench.kernel.close();
        bench.kernel.destroy();
        try expectEqual(@as(?[]const u8, null), violation);
    }

    fn put(bench: *Bench, opcode: system.Op, fd: i32, user_data: u64, flags: u8) *system.Sqe {
        const sqe = bench.kernel.sqe().?;
        sqe.opcode = opcode;
        sqe.fd = fd;
        sqe.user_data = user_data;
        sqe.flags = flags;
        return sqe;
    }

    fn move(bench: *Bench, opcode: system.Op, fd: i32, bytes: []const u8, flags: u8) *system.Sqe {
        const sqe = bench.put(opcode, fd, bench.kernel.queued(), flags);
        sqe.addr = @intFromPtr(bytes.ptr);
        sqe.len = @intCast(bytes.len);
        return sqe;
    }

    /// So much time passes; results are kept by user_data.
    fn pass(bench: *Bench, milliseconds: u32) void {
        const end = bench.kernel.clock.now + @as(u64, milliseconds) * std.time.ns_per_ms;
        while (bench.kernel.clock.now < end) {
            _ = bench.kernel.enter(1, 1);
            for (bench.kernel.cqes()) |cqe| {
                bench.results[cqe.user_data] = cqe.res;
                bench.order[bench.count] = cqe.user_data;
                bench.count += 1;
            }
            bench.kernel.advance(@intCast(bench.kernel.cqes().len));
        }
    }

    fn expect_results(bench: *Bench, expected: []const ?i32) !void {
        try std.testing.expectEqualSlices(?i32, expected, bench.results[0..expected.len]);
        bench.results = @splat(null);
        bench.count = 0;
    }

    fn open_file(bench: *Bench, path: [*:0]const u8) !i32 {
        const sqe = bench.put(.OPENAT, -100, 0, 0);
        sqe.addr = @intFromPtr(path);
        sqe.rw_flags = 0o100 | flag.open_cloexec;
        bench.pass(5);
        defer bench.results = @splat(null);
        bench.count = 0;
        return bench.results[0].?;
    }
};

test "members of a chain run in order; a failure or a short read ends a soft one only" {
    var bench: Bench = try .open(1);
    const fd = try bench.open_file("a");
    var out: [8]u8 = undefined;
    for (0..20) |_| {
        _ = bench.move(.WRITE, fd, "12345678", flag.io_link);
        _ = bench.put(.FSYNC, fd, 1, flag.io_link);
        _ = bench.move(.READ, fd, &out, flag.io_link);
        _ = bench.put(.FSYNC, 77, 3, flag.io_link);
        _ = bench.put(.NOP, -1, 4, flag.io_hardlink);
        _ = bench.put(.NOP, -1, 5, 0);
        _ = bench.put(.NOP, -1, 6, 0); // apart
        bench.pass(20);
        const failed = errno.canceled;
        try bench.expect_results(&.{ 8, 0, 8, errno.badf, failed, failed, 0 });
        try std.testing.expectEqualStrings("12345678", &out);
        bench.move(.READ, fd, &out, flag.io_link).off = 4;
        _ = bench.put(.NOP, -1, 1, 0);
        bench.pass(20);
        try bench.expect_results(&.{ 4, failed });
        bench.move(.READ, fd, &out, flag.io_hardlink).off = 4;
        _ = bench.put(.FSYNC, 77, 1, flag.io_hardlink);
        _ = bench.put(.NOP, -1, 2, 0);
        bench.pass(20);
        try bench.expect_results(&.{ 4, errno.badf, 0 });
    }
    try bench.close();
}

test "a chain ends with its submission" {
    var bench: Bench = try .open(2);
    _ = bench.put(.FSYNC, 77, 0, flag.io_link);
    bench.pass(5);
    _ = bench.put(.NOP, -1, 1, 0);
    bench.pass(5);
    try bench.expect_results(&.{ errno.badf, 0 });
    try bench.close();
}

test "a linked time-out ends what takes too long and is itself ended by what does not" {
    var bench: Bench = try .open(3);
    const pipe = bench.kernel.network.pipe().?;
    const duration: system.Timespec = .{ .sec = 0, .nsec = 20 * std.time.ns_per_ms };
    var out: [4]u8 = undefined;
    for ([_]bool{ false, true }) |in_time| {
        _ = bench.move(.READ, pipe.fd, &out, flag.io_link);
        const timeout = bench.put(.LINK_TIMEOUT, -1, 1, flag.io_link);
        timeout.addr = @intFromPtr(&duration);
        timeout.len = 1;
        _ = bench.put(.NOP, -1, 2, 0);
        bench.pass(5);
        try bench.expect_results(&.{ null, null, null });
        if (in_time) _ = peers.send(&bench.kernel.network, pipe.peer, "abcd");
        bench.pass(40);
        if (in_time) {
            const whole = bench.results[0] == 4;
            if (whole) try bench.expect_results(&.{ 4, errno.canceled, 0 }) else {
                bench.results = @splat(null); // a short read has ended the chain
            }
        } else {
            try bench.expect_results(&.{ errno.canceled, errno.time, errno.canceled });
        }
    }
    try bench.close();
}

test "a cancel finds no member of a chain that has not started" {
    var bench: Bench = try .open(4);
    const pipe = bench.kernel.network.pipe().?;
    var out: [4]u8 = undefined;
    _ = bench.move(.READ, pipe.fd, &out, flag.io_hardlink);
    _ = bench.move(.READ, pipe.fd, &out, 0);
    bench.put(.ASYNC_CANCEL, -1, 2, 0).addr = 1;
    bench.pass(10);
    try bench.expect_results(&.{ null, null, errno.noent });
    bench.put(.ASYNC_CANCEL, -1, 2, 0).addr = 0;
    bench.pass(10);
    try bench.expect_results(&.{ errno.canceled, null, 0 });
    bench.put(.ASYNC_CANCEL, -1, 2, 0).addr = 1;
    bench.pass(10);
    try bench.expect_results(&.{ null, errno.canceled, 0 });
    try bench.close();
}

test "a splice moves bytes between a file and a pipe, and a registered place keeps its file" {
    var bench: Bench = try .open(5);
    const fd = try bench.open_file("a");
    const pipe = bench.kernel.network.pipe().?;
    const kernel = bench.kernel;
    while (kernel.files_register(1) < 0) {} // refused by chance
    try expectEqual(@as(i32, 0), kernel.file_set(0, fd));
    kernel.close_fd(fd);
    _ = peers.send(&kernel.network, pipe.peer, "wxyz");
    const splice = bench.put(.SPLICE, 0, 0, flag.fixed_file | flag.io_hardlink);
    splice.splice_fd_in = pipe.fd;
    splice.addr = std.math.maxInt(u64);
    splice.len = 4;
    var out: [8]u8 = undefined;
    _ = bench.move(.READ, 0, &out, flag.fixed_file);
    bench.pass(10);
    try expectEqual(bench.results[0], bench.results[1]);
    const count: usize = @intCast(bench.results[1].?);
    try std.testing.expectEqualStrings("wxyz"[0..count], out[0..count]);
    try expectEqual(errno.badf, kernel.file_set(0, fd));
    _ = bench.move(.READ, 0, &out, flag.fixed_file);
    bench.pass(10);
    try expectEqual(errno.badf, bench.results[0].?);
    try bench.close();
}

test "a registered buffer bounds what is moved, and must be free when it is unregistered" {
    var bench: Bench = try .open(6);
    const fd = try bench.open_file("a");
    const kernel = bench.kernel;
    var memory: [16]u8 = @splat('m');
    try expectEqual(@as(i32, 0), kernel.buffers_register(1));
    try expectEqual(@as(i32, 0), kernel.buffer_set(0, memory[0..8]));
    _ = bench.move(.WRITE_FIXED, fd, memory[4..8], 0);
    _ = bench.move(.WRITE_FIXED, fd, memory[4..9], 0);
    bench.pass(10);
    try bench.expect_results(&.{ 4, errno.fault });
    kernel.buffers_unregister();
    _ = bench.move(.WRITE_FIXED, fd, memory[4..8], 0);
    bench.pass(10);
    try bench.expect_results(&.{errno.fault});
    try bench.close();
}
