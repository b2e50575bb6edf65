//! Mailboxes under real threads: order, bounds, the bell, and rings that go under their posters.
//!
//! The schedules of `posters.zig` go through every place between the engine's calls; here the
//! threads meet inside of them. Each test is bounded in time.

const std = @import("std");
const abi = @import("../abi.zig");
const block = @import("../block.zig");
const seam = @import("../kernel.zig");
const mailboxes = @import("../mailbox.zig");
const testing = std.testing;
const Thread = std.Thread;
const Mailbox = mailboxes.Mailbox;
const close = mailboxes.close;
const errno = seam.errno;
const post_number = mailboxes.post_number;
const wakeup = mailboxes.wakeup;

const Crowd = struct {
    token: u32,
    bell: u32 = 0,
    /// Posts of each poster.
    count: u32,
    refused: u32 = 0,
    failed: bool = false,

    fn open_for(crowd: *Crowd, capacity: u32) !*Mailbox {
        return switch (mailboxes.open(capacity, .{ .counter = &crowd.bell })) {
            .mailbox => |mailbox| {
                crowd.token = mailbox.token;
                return mailbox;
            },
            .refused => error.Refused,
        };
    }

    fn post_all(crowd: *Crowd, key: u32) void {
        var next: u32 = 0;
        while (next < crowd.count) {
            const outcome = post_number(crowd.token, key, @floatFromInt(next));
            if (outcome == 0) {
                next += 1;
            } else if (outcome == errno.again) {
                _ = @atomicRmw(u32, &crowd.refused, .Add, 1, .monotonic);
                Thread.yield() catch continue;
            } else {
                @atomicStore(bool, &crowd.failed, true, .monotonic);
                return;
            }
        }
    }

    /// Sleeps as a ring does: until the bell rings, and not when something is there already.
    fn sleep_on(crowd: *Crowd, mailbox: *Mailbox) !void {
        const rung = @atomicLoad(u32, &crowd.bell, .seq_cst);
        if (!mailbox.sleep(.in_loop)) return;
        const deadline = seam.linux.now_ns() + 20 * std.time.ns_per_s;
        while (@atomicLoad(u32, &crowd.bell, .seq_cst) == rung) {
            if (seam.linux.now_ns() > deadline) return error.NeverRung;
            Thread.yield() catch continue;
        }
    }
};

test "posts of four threads arrive once each and in order, and the bell rings for a sleeper" {
    for ([_]u32{ 2, 64, 4096 }) |capacity| {
        var crowd: Crowd = .{ .token = 0, .count = if (capacity == 2) 3_000 else 30_000 };
        const mailbox = try crowd.open_for(capacity);
        var threads: [4]Thread = undefined;
        for (&threads, 0..) |*thread, key| {
            thread.* = try Thread.spawn(.{}, Crowd.post_all, .{ &crowd, @as(u32, @intCast(key)) });
        }
        var next: [4]u32 = @splat(0);
        var left = 4 * crowd.count;
        while (left > 0) {
            const post_ = mailbox.take() orelse {
                try crowd.sleep_on(mailbox);
                mailbox.wake();
                continue;
            };
            try testing.expectEqual(@as(f64, @floatFromInt(next[post_.key])), post_.data);
            next[post_.key] += 1;
            left -= 1;
        }
        for (threads) |thread| thread.join();
        try testing.expect(!crowd.failed);
        try testing.expectEqual(null, mailbox.take());
        try testing.expect(capacity > 64 or crowd.refused > 0);
        close(mailbox);
        try testing.expectEqual(errno.shutdown, post_number(crowd.token, 0, 0));
    }
}

test "a mailbox takes as many posts as it has cells, at any place of its laps" {
    var crowd: Crowd = .{ .token = 0, .count = 0 };
    const mailbox = try crowd.open_for(4);
    defer close(mailbox);
    for (0..9) |lap| {
        for (0..4) |i| try testing.expectEqual(0, post_number(crowd.token, 7, @floatFromInt(i)));
        try testing.expectEqual(errno.again, post_number(crowd.token, 7, 0));
        try testing.expectEqual(4, mailbox.waiting());
        for (0..4) |i| {
            try testing.expectEqual(@as(f64, @floatFromInt(i)), mailbox.take().?.data);
        }
        try testing.expectEqual(null, mailbox.take());
        // The next lap begins at another cell.
        for (0..lap % 4) |_| {
            _ = post_number(crowd.token, 7, 0);
            _ = mailbox.take();
        }
    }
}

test "only the first of many posters rings, until the owner sleeps again" {
    var crowd: Crowd = .{ .token = 0, .count = 0 };
    const mailbox = try crowd.open_for(16);
    defer close(mailbox);
    try testing.expect(mailbox.sleep(.in_loop));
    for (0..5) |_| _ = post_number(crowd.token, 1, 1);
    try testing.expectEqual(1, crowd.bell);
    try testing.expect(!mailbox.sleep(.in_loop)); // something is there
    while (mailbox.take()) |_| {}
    try testing.expect(mailbox.sleep(.in_loop));
    mailbox.wake();
    _ = post_number(crowd.token, 1, 1); // it looks by itself
    try testing.expectEqual(1, crowd.bell);
}

test "signals are kept until they are taken, and are no posts" {
    var crowd: Crowd = .{ .token = 0, .count = 0 };
    const mailbox = try crowd.open_for(2);
    try testing.expect(mailbox.sleep(.in_loop));
    for (0..3) |_| try testing.expectEqual(0, wakeup(crowd.token));
    try testing.expectEqual(1, crowd.bell);
    try testing.expect(!mailbox.sleep(.in_loop));
    try testing.expectEqual(0, mailboxes.stop(crowd.token));
    try testing.expectEqual(null, mailbox.take());
    const both: mailboxes.Signals = .{ .wakeup = true, .stop = true };
    const neither: mailboxes.Signals = .{ .wakeup = false, .stop = false };
    try testing.expectEqual(both, mailbox.take_signals());
    try testing.expectEqual(neither, mailbox.take_signals());
    close(mailbox);
    try testing.expectEqual(errno.shutdown, wakeup(crowd.token));
    try testing.expectEqual(errno.shutdown, mailboxes.stop(crowd.token));
    try testing.expectEqual(errno.shutdown, mailboxes.check(crowd.token));
}

test "data that JavaScript could not hold is refused, what it can hold arrives as it is" {
    var crowd: Crowd = .{ .token = 0, .count = 0 };
    const mailbox = try crowd.open_for(2);
    defer close(mailbox);
    const nan = std.math.nan(f64);
    for ([_]f64{ 0.5, nan, std.math.inf(f64), 1 << 53, -(1 << 53) }) |data| {
        try testing.expectEqual(errno.inval, post_number(crowd.token, 0, data));
    }
    for ([_]f64{ 0, -1, (1 << 53) - 1, 1 - (1 << 53) }) |data| {
        try testing.expectEqual(0, post_number(crowd.token, 0xffff_ffff, data));
        try testing.expectEqual(
            mailboxes.Post{ .kind = .number, .key = 0xffff_ffff, .data = data },
            mailbox.take().?,
        );
    }
}

test "a token that is over, or never was, is refused, also when its place is taken again" {
    for ([_]u32{ 0, 1, 1023, 1 << 30, std.math.maxInt(u32) }) |token| {
        try testing.expectEqual(errno.shutdown, post_number(token, 0, 0));
    }
    var first: Crowd = .{ .token = 0, .count = 0 };
    close(try first.open_for(2));
    var second: Crowd = .{ .token = 0, .count = 0 };
    const mailbox = try second.open_for(2);
    defer close(mailbox);
    try testing.expectEqual(first.token % abi.rings_max, second.token % abi.rings_max);
    try testing.expect(first.token != second.token);
    try testing.expectEqual(errno.shutdown, post_number(first.token, 0, 0));
    try testing.expectEqual(null, mailbox.take());
}

/// Posts numbers and blocks to whatever ring has the token, until told to stop.
const Siege = struct {
    token: u32 = 0,
    /// Outlives every poster.
    bell: u32 = 0,
    over: bool = false,
    accepted: u32 = 0,
    failed: bool = false,

    fn besiege(siege: *Siege) void {
        while (!@atomicLoad(bool, &siege.over, .monotonic)) {
            const token = @atomicLoad(u32, &siege.token, .monotonic);
            const header = block.map(8) orelse continue;
            const outcomes = [_]i32{
                mailboxes.post_block(token, 0, header.address()),
                post_number(token, 0, 0),
                wakeup(token),
            };
            header.release();
            for (outcomes) |outcome| switch (outcome) {
                0 => _ = @atomicRmw(u32, &siege.accepted, .Add, 1, .monotonic),
                errno.shutdown, errno.again => {},
                else => @atomicStore(bool, &siege.failed, true, .monotonic),
            };
        }
    }
};

test "rings come and go under their posters, and every block is freed once" {
    const blocks_before = block.count();
    var siege: Siege = .{};
    var threads: [3]Thread = undefined;
    for (&threads) |*thread| thread.* = try Thread.spawn(.{}, Siege.besiege, .{&siege});
    var rounds: u32 = 0;
    const deadline = seam.linux.now_ns() + 20 * std.time.ns_per_s;
    while (rounds < 3000 or @atomicLoad(u32, &siege.accepted, .monotonic) < 1000) : (rounds += 1) {
        if (seam.linux.now_ns() > deadline) return error.NobodyPosts;
        const mailbox = mailboxes.open(8, .{ .counter = &siege.bell }).mailbox;
        const token = mailbox.token;
        @atomicStore(u32, &siege.token, token, .monotonic);
        if (rounds % 4 == 0) Thread.yield() catch continue;
        if (mailbox.take()) |post_| mailboxes.drop(&post_);
        if (rounds % 3 == 0) mailboxes.shut(token);
        close(mailbox);
    }
    @atomicStore(bool, &siege.over, true, .monotonic);
    for (threads) |thread| thread.join();
    try testing.expect(!siege.failed);
    try testing.expectEqual(blocks_before, block.count());
}
