//! Failures put into what listeners and connections do, on the ring and on its twin: the listener
//! survives what is survivable, no byte is lost or doubled, a connection opens and closes once, and
//! no descriptor or buffer stays behind.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const failures = @import("../kernel/failures.zig");
const seam = @import("../kernel.zig");
const scenes = @import("scene.zig");
const Ground = @import("ground.zig").Ground;
const Handle = scenes.Handle;
const errno = seam.errno;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const linux = seam.linux;

// Listeners ------------------------------------------------------------------------------------

/// There is no listening socket: nothing will ever come.
fn ends_listener(code: i32) bool {
    return switch (code) {
        errno.badf, errno.inval, errno.notsock, errno.notsup => true,
        else => false,
    };
}

/// Every listener's first accept fails, each in its way, all at the same time.
fn accepts(ground: *Ground) anyerror!void {
    const listed = failures.of(.ACCEPT);
    var ended: u32 = 0;
    var at: usize = 0;
    while (at < listed.len) {
        const codes = listed[at..@min(at + 8, listed.len)];
        at += codes.len;
        var listeners: [8]Handle = undefined;
        for (codes, 1..) |code, nth| {
            try ground.force(.{ .kind = .accept, .nth = @intCast(nth), .result = code });
        }
        for (listeners[0..codes.len]) |*one| one.* = try ground.listen();
        var knocks: u32 = 0;
        for (listeners[0..codes.len], codes) |listener, code| {
            if (ends_listener(code)) continue;
            _ = try ground.knock(listener);
            knocks += 1;
        }
        // Both ends of each are ours.
        try ground.wait_until_seen(.open, 2 * knocks);
        try ground.struck(@intCast(codes.len));
        for (listeners[0..codes.len], codes) |listener, code| {
            if (ends_listener(code)) {
                const closed = try ground.wait_for(.listener_closed, listener);
                try expectEqual(code, closed.result);
                ended += 1;
            } else {
                try expectEqual(null, try ground.find(.listener_closed, listener));
                const generation = listener.generation;
                _ = calls.listener_stop(ground.engine, listener.index, generation);
            }
        }
        try ground.wait_until_seen(.listener_closed, @intCast(codes.len));
        try terminate_all(ground);
        ground.forget();
    }
    try expectEqual(4, ended);
    try expectEqual(listed.len, ground.engine.counters.accepts_failed);
}

fn terminate_all(ground: *Ground) !void {
    const opened = ground.seen(.open);
    const count = ground.count;
    for (ground.records[0..count]) |record| {
        if (record.event != .open) continue;
        try ground.shut(.{ .index = record.index, .generation = record.generation }, .terminate);
    }
    try ground.wait_until_seen(.close, opened);
}

test "an accept that fails ends a listener only if there is nothing left to accept from" {
    try Ground.each(.{}, accepts);
    try Ground.each(.{ .disabled = .initMany(&.{.multishot_accept}) }, accepts);
}

fn accept_ends(ground: *Ground) anyerror!void {
    const listener = try ground.listen();
    for ([_]i32{ errno.connaborted, errno.mfile, errno.nobufs, errno.intr }) |code| {
        try ground.force(.{ .kind = .accept, .how = .ending, .result = code });
        const before = ground.engine.counters.accepts_failed;
        for (0..3) |_| _ = try ground.knock(listener);
        // The first is accepted by the multishot, the others by it or by the one after it.
        try ground.wait_until_seen(.open, 6);
        while (ground.engine.counters.accepts_failed == before) try ground.turn(10);
        try ground.struck(1);
        try terminate_all(ground);
        ground.forget();
    }
    try expectEqual(4, ground.engine.counters.accepts_failed);
    // The third to come back was in haste, as descriptors were given back.
    try expectEqual(2, ground.engine.counters.accept_backoffs);
}

test "a multishot accept that ends in a failure loses nobody who waits" {
    try Ground.each(.{}, accept_ends);
}

// Receives -------------------------------------------------------------------------------------

/// Nothing is wrong with the connection.
fn is_tried_again(code: i32) bool {
    return code == errno.intr or code == errno.canceled or code == errno.nobufs;
}

const receive_failures = failures.of(.RECV) ++ [_]i32{ errno.canceled, errno.nobufs, errno.io };

fn receives(ground: *Ground) anyerror!void {
    for (receive_failures) |code| {
        errdefer std.debug.print("fault: receive with {d}\n", .{code});
        try ground.force(.{ .kind = .receive, .result = code });
        const both = try ground.pair();
        try expect(linux.write(both.peer, "hello") == 5);
        if (is_tried_again(code)) {
            const data = try ground.wait_for(.data, both.handle);
            try std.testing.expectEqualStrings("hello", ground.bytes_of(data));
            try ground.shut(both.handle, .terminate);
        }
        const closed = try ground.wait_for(.close, both.handle);
        try expectEqual(if (is_tried_again(code)) 0 else code, closed.result);
        try ground.struck(1);
        linux.close(both.peer);
        ground.forget();
    }
    try expectEqual(0, ground.engine.counters.cqes_stale);
}

test "a receive that fails ends its connection with that, or is made again; no byte is lost" {
    try Ground.each(.{}, receives);
    try Ground.each(.{ .disabled = .initMany(&.{.multishot_receive}) }, receives);
}

fn receive_ends(ground: *Ground) anyerror!void {
    for (receive_failures) |code| {
        errdefer std.debug.print("fault: receive ended with {d}\n", .{code});
        try ground.force(.{ .kind = .receive, .how = .ending, .nth = 2, .result = code });
        const both = try ground.pair();
        for ([_][]const u8{ "one", "two" }, 1..) |text, count| {
            try expect(linux.write(both.peer, text) == text.len);
            try ground.wait_until_seen(.data, @intCast(count));
            const data = try ground.wait_for(.data, both.handle);
            try std.testing.expectEqualStrings(text, ground.bytes_of(data));
        }
        if (is_tried_again(code)) {
            try expect(linux.write(both.peer, "three") == 5);
            try ground.wait_until_seen(.data, 3);
            try ground.shut(both.handle, .terminate);
        }
        const closed = try ground.wait_for(.close, both.handle);
        try expectEqual(if (is_tried_again(code)) 0 else code, closed.result);
        try ground.struck(1);
        linux.close(both.peer);
        ground.forget();
    }
}

test "a multishot receive that fails in the middle has delivered what came before" {
    try Ground.each(.{}, receive_ends);
}

// Sends ----------------------------------------------------------------------------------------

/// The peer is gone, or its network: what it sent before is received to its end.
fn is_peer_gone(code: i32) bool {
    return switch (code) {
        errno.pipe, errno.connreset, errno.timedout => true,
        else => false,
    };
}

fn sends(ground: *Ground) anyerror!void {
    for (comptime failures.of(.SEND) ++ [_]i32{errno.canceled}) |code| {
        errdefer std.debug.print("fault: send with {d}\n", .{code});
        try ground.force(.{ .kind = .send, .nth = 2, .result = code });
        const both = try ground.pair();
        try ground.write(both.handle, "before ");
        try ground.turns(3);
        try ground.write(both.handle, "after");
        const again = code == errno.intr or code == errno.canceled;
        if (again) {
            try ground.expect_read(both.peer, "before after");
            try ground.shut(both.handle, .terminate);
        } else {
            try expect(linux.write(both.peer, "unread") == 6);
            try ground.turns(3);
            // Nothing is written behind what was lost.
            const late = calls.connection_write(
                ground.engine,
                both.handle.index,
                both.handle.generation,
                "x",
                1,
            );
            try expect(late == errno.pipe or late == errno.noent);
            try ground.expect_read(both.peer, "before ");
            if (is_peer_gone(code)) {
                const data = try ground.wait_for(.data, both.handle);
                try std.testing.expectEqualStrings("unread", ground.bytes_of(data));
                try expectEqual(null, try ground.find(.close, both.handle));
            }
        }
        linux.close(both.peer);
        const closed = try ground.wait_for(.close, both.handle);
        try expectEqual(if (again) 0 else code, closed.result);
        try ground.struck(1);
        ground.forget();
    }
}

test "a send that fails is made again if it was interrupted, else no byte goes behind it" {
    try Ground.each(.{}, sends);
}

fn short_sends(ground: *Ground) anyerror!void {
    const both = try ground.pair();
    var text: [1500]u8 = undefined;
    for (&text, 0..) |*byte, at| byte.* = @truncate(at *% 7);
    try ground.force(.{ .kind = .send, .how = .shortened, .every = 1, .result = 100 });
    try ground.write(both.handle, text[0..1000]);
    try ground.turns(2);
    try ground.write(both.handle, text[1000..]);
    try ground.expect_read(both.peer, &text);
    try ground.struck(15);
    try ground.shut(both.handle, .end);
    linux.close(both.peer);
    _ = try ground.wait_for(.close, both.handle);
}

test "sends that move a part each leave no gap and no byte twice" {
    try Ground.each(.{}, short_sends);
}

fn chained(ground: *Ground) anyerror!void {
    const text = "abcdefghijkl";
    const parts = [_][2]f64{ part(text[0..4]), part(text[4..8]), part(text[8..12]) };
    for ([_]i32{ errno.pipe, errno.io, errno.intr, errno.nobufs }) |code| {
        errdefer std.debug.print("fault: member with {d}\n", .{code});
        try ground.force(.{ .kind = .of_member(0), .nth = 2, .result = code });
        const both = try ground.pair();
        const engine = ground.engine;
        const chain = try send_parts(ground, both.handle, &parts, .chained);
        if (code == errno.intr) {
            try expectEqual(all_sent, try ground.outcome(chain));
            try expectEqual(12, calls.operation_sent(engine, chain.index));
            try ground.expect_read(both.peer, text);
            try ground.shut(both.handle, .terminate);
        } else {
            try ground.expect_read(both.peer, text[0..4]);
            try expectEqual(code, try ground.outcome(chain));
        }
        linux.close(both.peer);
        const closed = try ground.wait_for(.close, both.handle);
        try expectEqual(if (code == errno.intr) 0 else code, closed.result);
        try ground.struck(1);
        ground.forget();
    }
}

/// The result of a send in place that went to its end.
const all_sent = 1;

fn part(bytes: []const u8) [2]f64 {
    return .{ @floatFromInt(@intFromPtr(bytes.ptr)), @floatFromInt(bytes.len) };
}

fn send_parts(
    ground: *Ground,
    to: Handle,
    parts: []const [2]f64,
    comptime flag: abi.SendFlag,
) !Handle {
    const arguments = ground.engine.arguments;
    arguments.* = std.mem.zeroes(abi.Arguments);
    arguments.extra = @intCast(parts.len);
    arguments.flags = @as(u32, 1) << @intFromEnum(flag);
    const input = std.mem.sliceAsBytes(parts);
    const len: u32 = @intCast(input.len);
    return ground.handle(calls.connection_send(
        ground.engine,
        to.index,
        to.generation,
        input.ptr,
        len,
    ));
}

test "a member of a chain that fails takes the rest along, and none goes before it" {
    try Ground.each(.{}, chained);
}

fn refused_zero_copy(ground: *Ground) anyerror!void {
    if (!ground.engine.has(.zero_copy_send)) {
        return std.debug.print("fault: no zero-copy sends here, nothing to refuse\n", .{});
    }
    var text: [600]u8 = undefined;
    for (&text, 0..) |*byte, at| byte.* = @truncate(at);
    for ([_]i32{ errno.notsup, errno.nobufs, errno.nomem }) |code| {
        try ground.force(.{ .kind = .of_member(0), .result = code });
        const listener = try ground.listen();
        _ = try ground.knock(listener);
        try ground.wait_until_seen(.open, 2);
        const near = handle_of(&ground.records[0]);
        const far = handle_of(&ground.records[1]);
        const parts = [_][2]f64{part(&text)};
        const sent = try send_parts(ground, near, &parts, .report_break);
        try expectEqual(all_sent, try ground.outcome(sent));
        _ = try ground.wait_for(.data, far);
        try ground.struck(1);
        _ = calls.listener_stop(ground.engine, listener.index, listener.generation);
        try terminate_all(ground);
        try expectEqual(0, (try ground.wait_for(.close, near)).result);
        ground.forget();
    }
}

fn handle_of(record: *const abi.Record) Handle {
    return .{ .index = record.index, .generation = record.generation };
}

test "a zero-copy send that is refused goes as a copy" {
    try Ground.each(.{ .zero_copy_min = 100 }, refused_zero_copy);
}
