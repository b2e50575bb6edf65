//! Tests of the epoll twin by itself: what the real ring has in the kernel and the twin in its own
//! memory. What both have in common is compared in `parity_tests.zig`.

const std = @import("std");
const linux = std.os.linux;
const system = @import("../linux.zig");
const parity = @import("parity.zig");
const Epoll = @import("../epoll.zig").Epoll;
const errno = system.errno;
const flag = system.sqe_flag;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

fn pair() ![2]i32 {
    var ends: [2]i32 = undefined;
    const kind = linux.SOCK.STREAM | linux.SOCK.CLOEXEC;
    _ = try parity.check(linux.socketpair(linux.AF.UNIX, kind, 0, &ends));
    return ends;
}

fn write(fd: i32, bytes: []const u8) !void {
    _ = try parity.check(linux.write(fd, bytes.ptr, bytes.len));
}

fn put(kernel: *Epoll, opcode: system.Op, fd: i32, user_data: u64) *system.Sqe {
    const sqe = kernel.sqe().?;
    sqe.opcode = opcode;
    sqe.fd = fd;
    sqe.user_data = user_data;
    return sqe;
}

fn receive(kernel: *Epoll, fd: i32, out: []u8, user_data: u64) void {
    const sqe = put(kernel, .RECV, fd, user_data);
    sqe.addr = @intFromPtr(out.ptr);
    sqe.len = @intCast(out.len);
}

/// The next completion, which has to come.
fn next(kernel: *Epoll) !system.Cqe {
    for (0..20) |_| {
        if (kernel.cqes().len > 0) {
            const cqe = kernel.cqes()[0];
            kernel.advance(1);
            return cqe;
        }
        _ = kernel.enter(1, 100);
    }
    return error.NothingCame;
}

fn expect_next(kernel: *Epoll, user_data: u64, result: i32) !void {
    const cqe = try next(kernel);
    try expectEqual(user_data, cqe.user_data);
    try expectEqual(result, cqe.res);
}

fn expect_nothing(kernel: *Epoll) !void {
    for (0..3) |_| _ = kernel.enter(0, 0);
    try expectEqual(@as(usize, 0), kernel.cqes().len);
}

/// Whether the eventfd is readable within so long; reads it.
fn is_signalled(kernel: *Epoll, wait_ms: i32) bool {
    var fds = [_]linux.pollfd{.{ .fd = kernel.wake_fd(), .events = linux.POLL.IN, .revents = 0 }};
    if (system.result(linux.poll(&fds, 1, wait_ms)) != 1) return false;
    var count: u64 = 0;
    return system.result(linux.read(kernel.wake_fd(), std.mem.asBytes(&count), 8)) == 8;
}

test "an armed twin signals when something can go on, also if it could already" {
    const kernel = try parity.open_twin();
    defer kernel.close();
    const ends = try pair();
    defer for (ends) |fd| system.close(fd);
    kernel.own(ends[0]);
    var out: [8]u8 = undefined;
    for (0..3) |round| {
        receive(kernel, ends[0], &out, round);
        _ = kernel.enter(0, 0);
        if (round == 1) try write(ends[1], "x"); // between the last look and the arming
        try expect(!kernel.arm(false));
        if (round != 1) {
            try expect(!is_signalled(kernel, 0));
            try write(ends[1], "x");
        }
        try expect(is_signalled(kernel, 1000));
        kernel.disarm();
        try expect_next(kernel, round, 1);
    }
    const duration: system.Timespec = .{ .sec = 0, .nsec = 5 * std.time.ns_per_ms };
    const timeout = put(kernel, .TIMEOUT, -1, 7);
    timeout.addr = @intFromPtr(&duration);
    timeout.len = 1;
    _ = kernel.enter(0, 0);
    try expect(!kernel.arm(false));
    try expect(is_signalled(kernel, 1000));
    try expect_next(kernel, 7, errno.time);
    // A completion that waits is reason enough not to sleep.
    _ = put(kernel, .NOP, -1, 8);
    _ = kernel.enter(0, 0);
    try expect(kernel.arm(false));
}

test "a descriptor of its own stays registered, and leaves when nobody waits and it fires" {
    const kernel = try parity.open_twin();
    defer kernel.close();
    const ends = try pair();
    defer system.close(ends[1]);
    kernel.own(ends[0]);
    var out: [8]u8 = undefined;
    for (0..10) |round| {
        receive(kernel, ends[0], &out, round);
        _ = kernel.enter(0, 0);
        try expectEqual(@as(u32, 1), kernel.descriptors.watched);
        try write(ends[1], "abc");
        try expect_next(kernel, round, 3);
        try expectEqual(@as(u32, 1), kernel.descriptors.watched);
    }
    try write(ends[1], "nobody reads this");
    for (0..2) |_| _ = kernel.enter(0, 0);
    try expectEqual(@as(u32, 0), kernel.descriptors.watched);
    try expect(!kernel.ready());
    receive(kernel, ends[0], &out, 20);
    try expect_next(kernel, 20, 8);
    kernel.close_fd(ends[0]);
    // Somebody else's comes and goes with its operation.
    const others = try pair();
    defer for (others) |fd| system.close(fd);
    receive(kernel, others[0], &out, 21);
    _ = kernel.enter(0, 0);
    try expectEqual(@as(u32, 1), kernel.descriptors.watched);
    try write(others[1], "x");
    try expect_next(kernel, 21, 1);
    try expectEqual(@as(u32, 0), kernel.descriptors.watched);
}

test "a close under a receive ends nothing, and the number's next owner keeps his bytes" {
    const kernel = try parity.open_twin();
    defer kernel.close();
    const ends = try pair();
    kernel.own(ends[0]);
    var out: [8]u8 = undefined;
    receive(kernel, ends[0], &out, 1);
    _ = kernel.enter(0, 0);
    _ = put(kernel, .CLOSE, ends[0], 2);
    try expect_next(kernel, 2, 0);
    const others = try pair();
    defer for (others) |fd| system.close(fd);
    for (others) |fd| kernel.own(fd);
    var theirs: [8]u8 = undefined;
    receive(kernel, others[0], &theirs, 3);
    try write(others[1], "theirs");
    try expect_next(kernel, 3, 6);
    try expect_nothing(kernel);
    try write(ends[1], "mine");
    try expect_next(kernel, 1, 4);
    try std.testing.expectEqualStrings("mine", out[0..4]);
    system.close(ends[1]);
}

test "full queues push back: nothing is dropped, and it goes on" {
    const kernel = switch (Epoll.open(.{ .entries = 4, .cq_entries = 4, .operations = 6 })) {
        .kernel => |kernel| kernel,
        .refused => return error.NoTwin,
    };
    defer kernel.close();
    for (0..4) |i| _ = put(kernel, .NOP, -1, i);
    try expectEqual(@as(?*system.Sqe, null), kernel.sqe());
    try expectEqual(@as(i32, 4), kernel.enter(0, 0));
    for (4..8) |i| _ = put(kernel, .NOP, -1, i);
    try expectEqual(errno.busy, kernel.enter(0, 0));
    try expectEqual(@as(u32, 4), kernel.queued());
    for (0..8) |i| try expect_next(kernel, i, 0);
    const duration: system.Timespec = .{ .sec = 100, .nsec = 0 };
    for (0..7) |i| {
        const timeout = put(kernel, .TIMEOUT, -1, i);
        timeout.addr = @intFromPtr(&duration);
        timeout.len = 1;
        const expected: i32 = if (i < 6) 1 else errno.again;
        try expectEqual(expected, kernel.enter(0, 0));
    }
    try expectEqual(@as(u64, 6), kernel.take_back().?.user_data);
    // Six end at once, in a queue for four: the rest waits outside, in order.
    var timeouts: [6]bool = @splat(false);
    kernel.timers.heap[0].at_ns = 0;
    for (kernel.timers.heap[0..6]) |operation| operation.at_ns = 0;
    _ = kernel.enter(0, 0);
    try expectEqual(@as(u32, 2), kernel.overflowed());
    for (0..6) |_| timeouts[(try next(kernel)).user_data] = true;
    try expect(std.mem.allEqual(bool, &timeouts, true));
}

test "without a free descriptor an operation waits all the same" {
    const kernel = try parity.open_twin();
    defer kernel.close();
    const ends = try pair();
    defer for (ends) |fd| system.close(fd);
    var before: linux.rlimit = undefined;
    _ = try parity.check(linux.getrlimit(.NOFILE, &before));
    const none_left: linux.rlimit = .{ .cur = 3, .max = before.max };
    _ = try parity.check(linux.setrlimit(.NOFILE, &none_left));
    var out: [8]u8 = undefined;
    receive(kernel, ends[0], &out, 1);
    _ = kernel.enter(0, 0);
    _ = try parity.check(linux.setrlimit(.NOFILE, &before));
    try write(ends[1], "x");
    try expect_next(kernel, 1, 1);
    try expectEqual(@as(u32, 0), kernel.descriptors.watched);
}

test "a FIFO is opened when it has both ends, and a cancel ends the wait" {
    const kernel = try parity.open_twin();
    defer kernel.close();
    var path: [64:0]u8 = undefined;
    const text = try std.fmt.bufPrintZ(&path, "/dev/shm/bun-uring-{d}", .{linux.getpid()});
    _ = try parity.check(linux.mknod(text, linux.S.IFIFO | 0o600, 0));
    defer _ = linux.unlink(text);
    const reading: u32 = @bitCast(linux.O{ .CLOEXEC = true });
    const writing: u32 = @bitCast(linux.O{ .ACCMODE = .WRONLY, .CLOEXEC = true });
    for ([_][2]u32{ .{ reading, writing }, .{ writing, reading } }) |flags| {
        for (flags, 0..) |flags_of_end, i| {
            const sqe = put(kernel, .OPENAT, linux.AT.FDCWD, i);
            sqe.addr = @intFromPtr(text.ptr);
            sqe.rw_flags = flags_of_end;
            if (i == 0) try expect_nothing(kernel);
        }
        var ends: [2]i32 = undefined;
        for (0..2) |_| {
            const cqe = try next(kernel);
            try expect(cqe.res >= 0);
            ends[cqe.user_data] = cqe.res;
        }
        for (ends) |fd| {
            const status = system.result(linux.fcntl(fd, linux.F.GETFL, 0));
            try expectEqual(@as(i32, 0), status & 0o4000); // it blocks, as asked
            system.close(fd);
        }
        const lonely = put(kernel, .OPENAT, linux.AT.FDCWD, 5);
        lonely.addr = @intFromPtr(text.ptr);
        lonely.rw_flags = flags[0];
        try expect_nothing(kernel);
        put(kernel, .ASYNC_CANCEL, -1, 6).addr = 5;
        try expect_next(kernel, 6, 0);
        try expect_next(kernel, 5, errno.canceled);
    }
}

/// Operations of all kinds on a few descriptors, some closed meanwhile, with cancels by everything:
/// each ends once, and nothing is left.
const Storm = struct {
    kernel: *Epoll,
    random: std.Random,
    ends: [8]i32 = @splat(-1),
    /// Last completions to come, by user_data.
    pending: [64]u32 = @splat(0),
    memory: [64]u8 = @splat('.'),
    duration: system.Timespec = .{ .sec = 0, .nsec = 300_000 },

    fn step(storm: *Storm) !void {
        const random = storm.random;
        switch (random.uintLessThan(u32, 12)) {
            0 => try storm.replace(),
            1 => storm.release(storm.ends[random.uintLessThan(usize, 8)]),
            2...7 => while (storm.kernel.room() > 2 and random.uintLessThan(u32, 3) > 0) {
                storm.submit();
            },
            8 => {
                const fd = storm.ends[random.uintLessThan(usize, 8)];
                if (fd >= 0) _ = linux.sendto(fd, "storm", 5, quiet, null, 0);
            },
            else => {},
        }
        _ = storm.kernel.enter(0, 0);
        try storm.reap();
    }

    const quiet = linux.MSG.NOSIGNAL | linux.MSG.DONTWAIT;

    fn replace(storm: *Storm) !void {
        const at = 2 * storm.random.uintLessThan(usize, 4);
        if (storm.ends[at] >= 0 or storm.ends[at + 1] >= 0) return;
        storm.ends[at..][0..2].* = try pair();
        if (storm.random.boolean()) storm.kernel.own(storm.ends[at]);
    }

    fn release(storm: *Storm, fd: i32) void {
        if (fd < 0) return;
        for (&storm.ends) |*end| if (end.* == fd) {
            end.* = -1;
        };
        // Ours are closed through the kernel, others behind its back.
        if (storm.kernel.descriptors.is_own(fd)) storm.kernel.close_fd(fd) else system.close(fd);
    }

    fn submit(storm: *Storm) void {
        const random = storm.random;
        const user_data = random.uintLessThan(u64, 64);
        const opcodes = [_]system.Op{
            .NOP,      .RECV, .SEND,  .SEND_ZC, .READ,   .WRITE, .POLL_ADD, .TIMEOUT,
            .SHUTDOWN, .RECV, .FSYNC, .CONNECT, .ACCEPT, .SEND,  .RECV,     .ASYNC_CANCEL,
        };
        const opcode = opcodes[random.uintLessThan(usize, opcodes.len)];
        const sqe = put(storm.kernel, opcode, storm.ends[random.uintLessThan(usize, 8)], user_data);
        storm.pending[user_data] += 1;
        switch (opcode) {
            .RECV, .SEND, .SEND_ZC, .READ, .WRITE => {
                sqe.addr = @intFromPtr(&storm.memory);
                sqe.len = 1 + random.uintLessThan(u32, storm.memory.len);
                if (opcode == .READ or opcode == .WRITE) sqe.off = std.math.maxInt(u64);
                if (opcode == .RECV or opcode == .SEND) {
                    sqe.rw_flags = if (random.boolean()) linux.MSG.WAITALL else 0;
                }
            },
            .POLL_ADD => {
                sqe.rw_flags = linux.POLL.IN;
                if (random.boolean()) sqe.len = flag.poll_multishot;
            },
            .TIMEOUT => storm.time(sqe),
            .SHUTDOWN => sqe.len = linux.SHUT.WR,
            .CONNECT => {
                sqe.addr = @intFromPtr(&storm.memory);
                sqe.off = 16;
            },
            .ASYNC_CANCEL => {
                sqe.addr = random.uintLessThan(u64, 64);
                const kinds = [_]u32{ 0, flag.cancel_fd, flag.cancel_fd | flag.cancel_all };
                sqe.rw_flags = kinds[random.uintLessThan(usize, 3)];
            },
            else => {},
        }
        if (random.uintLessThan(u32, 4) != 0) return;
        sqe.flags = if (random.boolean()) flag.io_link else flag.io_hardlink;
        if (random.boolean()) return;
        const timeout = put(storm.kernel, .LINK_TIMEOUT, -1, user_data);
        storm.pending[user_data] += 1;
        storm.time(timeout);
    }

    fn time(storm: *Storm, sqe: *system.Sqe) void {
        sqe.addr = @intFromPtr(&storm.duration);
        sqe.len = 1;
    }

    fn reap(storm: *Storm) !void {
        while (storm.kernel.cqes().len > 0) {
            const cqe = storm.kernel.cqes()[0];
            storm.kernel.advance(1);
            // A notification is promised by what comes before it.
            if (cqe.flags & system.cqe_flag.notification != 0) {
                try expect(storm.pending[cqe.user_data] > 0);
            }
            if (cqe.flags & system.cqe_flag.more != 0) continue;
            try expect(storm.pending[cqe.user_data] > 0);
            storm.pending[cqe.user_data] -= 1;
        }
    }
};

test "in a storm every operation ends once, and nothing is left of it" {
    var prng: std.Random.DefaultPrng = .init(std.testing.random_seed);
    // write(2) to a socket whose peer is gone, as on the real ring. Bun ignores it as well.
    const ignored: linux.Sigaction = .{
        .handler = .{ .handler = linux.SIG.IGN },
        .mask = linux.sigemptyset(),
        .flags = 0,
    };
    _ = linux.sigaction(.PIPE, &ignored, null);
    const kernel = try parity.open_twin();
    defer kernel.close();
    var storm: Storm = .{ .kernel = kernel, .random = prng.random() };
    for (0..20_000) |_| try storm.step();
    for (storm.ends) |fd| storm.release(fd);
    const all = linux.IORING_ASYNC_CANCEL_ANY | flag.cancel_all;
    for (0..1000) |_| {
        if (kernel.pool.used == 0 and kernel.queued() == 0) break;
        if (kernel.sqe()) |sqe| {
            sqe.opcode = .ASYNC_CANCEL;
            sqe.rw_flags = all;
            sqe.user_data = 0;
            storm.pending[0] += 1;
        }
        _ = kernel.enter(0, 0);
        try storm.reap();
    }
    try storm.reap();
    try expectEqual(@as(u32, 0), kernel.pool.used);
    try expectEqual(@as(u32, 0), kernel.timers.count);
    for (0..4) |_| _ = kernel.enter(0, 0);
    try expectEqual(@as(u32, 0), kernel.descriptors.watched);
    try expect(std.mem.allEqual(u32, &storm.pending, 0));
}
