//! Failures put into what datagram sockets do, on the ring and on its twin: what is told ends
//! nothing, what ends a socket is told with its end, and the next datagram is as good as any.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../datagram_calls.zig");
const failures = @import("../kernel/failures.zig");
const seam = @import("../kernel.zig");
const scenes = @import("scene.zig");
const Ground = @import("ground.zig").Ground;
const Handle = scenes.Handle;
const errno = seam.errno;
const expectEqual = std.testing.expectEqual;

fn open(ground: *Ground) !Handle {
    return ground.handle(calls.open(ground.engine, &scenes.Scene.local(0), null, 0));
}

fn send(ground: *Ground, from: Handle, to: Handle, bytes: []const u8) !void {
    const engine = ground.engine;
    var place: abi.Address = undefined;
    try expectEqual(0, calls.local_address(engine, to.index, to.generation, &place));
    const len: u32 = @intCast(bytes.len);
    const taken = calls.send(engine, from.index, from.generation, bytes.ptr, len, &place);
    try expectEqual(1, taken);
}

fn close(ground: *Ground, socket: Handle) !void {
    const outcome = calls.close(ground.engine, socket.index, socket.generation);
    try expectEqual(0, outcome);
    try expectEqual(0, (try ground.wait_for(.datagram_closed, socket)).result);
}

/// Nothing that another try would mend.
fn ends_socket(code: i32) bool {
    return switch (code) {
        errno.badf, errno.inval, errno.fault, errno.notsock, errno.notsup => true,
        else => false,
    };
}

fn is_silent(code: i32) bool {
    return switch (code) {
        errno.canceled, errno.intr, errno.again, errno.nobufs => true,
        else => false,
    };
}

fn receives(ground: *Ground) anyerror!void {
    for (comptime failures.of(.RECVMSG) ++ [_]i32{ errno.canceled, errno.nobufs }) |code| {
        errdefer std.debug.print("fault: receive of a datagram with {d}\n", .{code});
        try ground.force(.{ .kind = .datagram_receive, .result = code });
        const socket = try open(ground);
        try ground.turns(3);
        if (ends_socket(code)) {
            try expectEqual(code, (try ground.wait_for(.datagram_closed, socket)).result);
        } else {
            const other = try open(ground);
            try send(ground, other, socket, "hello");
            try expectEqual(5, (try ground.wait_for(.datagram, socket)).result);
            const told = try ground.find(.datagram_error, socket);
            try expectEqual(is_silent(code), told == null);
            if (told) |record| try expectEqual(code, record.result);
            try close(ground, socket);
            try close(ground, other);
        }
        try ground.struck(1);
        ground.forget();
    }
    try expectEqual(0, ground.engine.datagrams.sockets.claimed_count);
}

test "a receive of datagrams that fails is told, is made again, or ends its socket" {
    try Ground.each(.{}, receives);
    try Ground.each(.{ .disabled = .initMany(&.{.multishot_recvmsg}) }, receives);
}

fn sends(ground: *Ground) anyerror!void {
    const socket = try open(ground);
    const other = try open(ground);
    for (comptime failures.of(.SENDMSG) ++ [_]i32{errno.canceled}) |code| {
        errdefer std.debug.print("fault: send of a datagram with {d}\n", .{code});
        try ground.force(.{ .kind = .datagram_send, .result = code });
        try send(ground, other, socket, "first");
        try ground.turns(2);
        try send(ground, other, socket, "behind");
        const again = is_silent(code) and code != errno.nobufs;
        try ground.wait_until_seen(.datagram, if (again) 2 else 1);
        const last = try ground.wait_for(.datagram, socket);
        try expectEqual(6, last.result);
        const told = try ground.find(.datagram_error, other);
        try expectEqual(again, told == null);
        if (told) |record| try expectEqual(code, record.result);
        try ground.struck(1);
        ground.forget();
    }
    try close(ground, socket);
    try close(ground, other);
}

test "a datagram that is refused is told and goes no way, and what is behind it goes its own" {
    try Ground.each(.{}, sends);
}
