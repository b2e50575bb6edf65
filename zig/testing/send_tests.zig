//! Sends in place on the simulated kernel, step by step: what has to be just so. `sends.zig` goes
//! everywhere at random.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const errno = @import("../kernel.zig").errno;
const peers = @import("../kernel/simulated.zig").peers;
const Handle = @import("scene.zig").Handle;
const Scene = @import("scene.zig").Scene;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// A connection that sends, and what its peer has received.
const Stream = struct {
    scene: *Scene,
    connection: Scene.Connection,
    received: [1 << 16]u8 = undefined,
    len: usize = 0,

    fn open(scene: *Scene) !Stream {
        return .{ .scene = scene, .connection = try scene.connection() };
    }

    fn write(stream: *const Stream, bytes: []const u8) i32 {
        const handle = stream.connection.handle;
        const engine = stream.scene.engine;
        const len: u32 = @intCast(bytes.len);
        return calls.connection_write(engine, handle.index, handle.generation, bytes.ptr, len);
    }

    fn chain(stream: *const Stream, parts: []const []const u8, flags: u32) !Handle {
        var pairs: [1024][2]f64 = undefined;
        for (parts, 0..) |part, i| {
            pairs[i] = .{ @floatFromInt(@intFromPtr(part.ptr)), @floatFromInt(part.len) };
        }
        var arguments = Scene.blank;
        arguments.flags = flags | 1 << @intFromEnum(abi.SendFlag.chained);
        arguments.extra = @intCast(parts.len);
        return stream.start(arguments, std.mem.sliceAsBytes(pairs[0..parts.len]));
    }

    fn start(stream: *const Stream, arguments: abi.Arguments, input: []const u8) !Handle {
        const scene = stream.scene;
        const handle = stream.connection.handle;
        scene.engine.arguments.* = arguments;
        const len: u32 = @intCast(input.len);
        return scene.handle(calls.connection_send(
            scene.engine,
            handle.index,
            handle.generation,
            input.ptr,
            len,
        ));
    }

    fn read(stream: *Stream) void {
        const network = &stream.scene.kernel.network;
        const rest = stream.received[stream.len..];
        stream.len += peers.receive(network, stream.connection.peer, rest);
    }

    fn turns(stream: *Stream, count: usize) !void {
        for (0..count) |_| {
            try stream.scene.turn(5);
            stream.read();
        }
    }

    fn expect_received(stream: *Stream, expected: []const u8) !void {
        for (0..2000) |_| {
            if (stream.len >= expected.len) break;
            try stream.turns(1);
        }
        try std.testing.expectEqualSlices(u8, expected, stream.received[0..stream.len]);
    }
};

fn fill(bytes: []u8) void {
    for (bytes, 0..) |*byte, i| byte.* = @truncate(i *% 31 +% i / 256);
}

const reports: u32 = 1 << @intFromEnum(abi.SendFlag.report_break);

test "a chain of many members is one outcome, however short the queue, and breaks are resumed" {
    for ([_]u32{ 1, 2, 8, 64 }) |entries| {
        var scene: Scene = try .open(.{
            .seed = std.testing.random_seed,
            .entries = entries,
            .faults = .{ .gives_up = 100, .delayed = 200 },
        });
        var stream: Stream = try .open(&scene);
        var bytes: [20_000]u8 = undefined;
        fill(&bytes);
        var parts: [1000][]const u8 = undefined;
        for (&parts, 0..) |*part, i| part.* = bytes[20 * i ..][0..20];
        const send = try stream.chain(&parts, 0);
        try stream.expect_received(&bytes);
        try scene.expect_outcome(send, 1);
        try expectEqual(@as(usize, bytes.len), stream.len);
        try scene.close();
    }
}

test "a chain that reports its break sends nothing more, and what was written goes on" {
    var broke: u32 = 0;
    for (0..60) |seed| {
        var scene: Scene = try .open(.{
            .seed = std.testing.random_seed +% seed,
            .faults = .{ .gives_up = 300 },
            .limits = .{ .stream_bytes = 900 },
        });
        var stream: Stream = try .open(&scene);
        var bytes: [3000]u8 = undefined;
        fill(&bytes);
        const parts = [_][]const u8{ bytes[0..1000], bytes[1000..2000], bytes[2000..] };
        const send = try stream.chain(&parts, reports);
        try expectEqual(@as(i32, 6), stream.write("behind"));
        while (try scene.result(send) == null) try stream.turns(1);
        const result = (try scene.result(send)).?;
        const sent: usize = @intFromFloat(calls.operation_sent(scene.engine, send.index));
        try expectEqual(sent == bytes.len, result == 1);
        broke += @intFromBool(result == 0);
        var expected: [3006]u8 = undefined;
        @memcpy(expected[0..sent], bytes[0..sent]);
        @memcpy(expected[sent..][0..6], "behind");
        try stream.expect_received(expected[0 .. sent + 6]);
        try scene.close();
    }
    try expect(broke > 5);
}

test "a writer that was refused behind a send that is cancelled hears of room" {
    var scene: Scene = try .open(.{});
    var stream: Stream = try .open(&scene);
    // Somebody else has all blocks.
    var taken: [8]u32 = undefined;
    for (&taken) |*block| block.* = scene.engine.staging_pool.acquire().?;
    const send = try scene.lend(stream.connection.handle, "never sent");
    try expectEqual(@as(i32, 0), scene.cancel(send));
    try expectEqual(@as(i32, 0), stream.write("refused"));
    try stream.turns(3);
    try scene.expect_outcome(send, errno.canceled);
    try expectEqual(@as(u32, 0), scene.seen(.drain));
    for (taken) |block| scene.engine.staging_pool.release(block);
    try stream.turns(3);
    try expectEqual(@as(u32, 1), scene.seen(.drain));
    try expectEqual(@as(usize, 0), stream.len);
    try scene.close();
}

test "what was received waits for a paused reader, after a reset not for long" {
    for ([_]bool{ true, false }) |resets| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
        var stream: Stream = try .open(&scene);
        const handle = stream.connection.handle;
        const network = &scene.kernel.network;
        const engine = scene.engine;
        try expectEqual(0, calls.connection_pause(engine, handle.index, handle.generation, 1));
        try stream.turns(4);
        if (resets) peers.reset(network, stream.connection.peer) else {
            peers.close(network, stream.connection.peer);
        }
        const from_ms = scene.engine.kernel.now_ns() / std.time.ns_per_ms;
        for (0..10_000) |_| {
            if (scene.seen(.close) > 0) break;
            _ = stream.write("x"); // the peer is gone: the first or the second fails
            try scene.turn(10);
        }
        const waited_ms = scene.engine.kernel.now_ns() / std.time.ns_per_ms - from_ms;
        const code = scene.last(.close).?.result;
        if (resets) try expectEqual(errno.connreset, code) else try expectEqual(errno.pipe, code);
        const least_ms: u64 = if (resets) 900 else 9_000;
        try expect(waited_ms >= least_ms and waited_ms < least_ms * 3 / 2);
        try scene.close();
    }
}
