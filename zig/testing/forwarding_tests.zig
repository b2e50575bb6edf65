//! Forwarding on the simulated kernel: contents, the order of the end, buffers, lost targets.
//!
//! What the peers see is compared byte for byte; closing the scene expects that no buffer and no
//! slot is left behind.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const peers = @import("../kernel/simulated.zig").peers;
const Scene = @import("scene.zig").Scene;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// A source, a target, and what the target's peer has received.
pub const Pair = struct {
    scene: *Scene,
    source: Scene.Connection,
    target: Scene.Connection,
    received: [1 << 19]u8 = undefined,
    len: usize = 0,

    pub fn open(scene: *Scene) !Pair {
        const source = try scene.connection();
        const target = try scene.connection();
        return .{ .scene = scene, .source = source, .target = target };
    }

    pub fn forward(pair: *const Pair) i32 {
        const source = pair.source.handle;
        const target = pair.target.handle;
        const engine = pair.scene.engine;
        return calls.connection_forward(
            engine,
            source.index,
            source.generation,
            target.index,
            target.generation,
        );
    }

    /// Bytes taken.
    pub fn send(pair: *Pair, bytes: []const u8) usize {
        return peers.send(&pair.scene.kernel.network, pair.source.peer, bytes);
    }

    pub fn read(pair: *Pair) void {
        const rest = pair.received[pair.len..];
        pair.len += peers.receive(&pair.scene.kernel.network, pair.target.peer, rest);
    }

    pub fn turn(pair: *Pair) !void {
        try pair.scene.turn(5);
        pair.read();
    }
};

pub fn fill(bytes: []u8) void {
    for (bytes, 0..) |*byte, i| byte.* = @truncate(i *% 31 +% i / 256);
}

test "forwarded bytes arrive in order, and the end behind the last of them" {
    for (0..20) |seed| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed +% seed });
        var pair: Pair = try .open(&scene);
        try expectEqual(@as(i32, 0), pair.forward());
        var bytes: [20_000]u8 = undefined;
        fill(&bytes);
        const network = &scene.kernel.network;
        var sent: usize = 0;
        for (0..10_000) |_| {
            if (sent < bytes.len) {
                const chunk = bytes[sent..@min(sent + 700, bytes.len)];
                sent += peers.send(network, pair.source.peer, chunk);
                if (sent == bytes.len) peers.half_close(network, pair.source.peer);
            }
            try pair.turn();
            if (scene.seen(.forwarded) > 0) break;
        }
        const record = scene.last(.forwarded).?;
        try expectEqual(@as(i32, 0), record.result);
        try expectEqual(pair.source.handle.index, record.index);
        // Told when all of it was sent: nothing is to be waited for but the peer's reading.
        for (0..100) |_| pair.read();
        try std.testing.expectEqualSlices(u8, &bytes, pair.received[0..pair.len]);
        const source = pair.source.handle;
        const count = calls.connection_forwarded(scene.engine, source.index, source.generation);
        try expectEqual(@as(f64, bytes.len), count);
        try expectEqual(@as(u32, 0), scene.seen(.data));
        try expectEqual(@as(u32, 0), scene.seen(.end));
        try scene.close();
    }
}

test "a target whose peer does not read holds the source back, and loses nothing" {
    var scene: Scene = try .open(.{});
    var pair: Pair = try .open(&scene);
    try expectEqual(@as(i32, 0), pair.forward());
    var bytes: [400_000]u8 = undefined;
    fill(&bytes);
    const network = &scene.kernel.network;
    var sent: usize = 0;
    for (0..300) |_| {
        sent += peers.send(network, pair.source.peer, bytes[sent..]);
        try scene.turn(5);
    }
    // Eight buffers of 512 bytes, and what the sockets hold.
    try expect(sent < bytes.len);
    for (0..100_000) |_| {
        if (sent < bytes.len) {
            sent += peers.send(network, pair.source.peer, bytes[sent..]);
            if (sent == bytes.len) peers.half_close(network, pair.source.peer);
        }
        try pair.turn();
        if (scene.seen(.forwarded) > 0) break;
    }
    for (0..100) |_| pair.read();
    try std.testing.expectEqualSlices(u8, &bytes, pair.received[0..pair.len]);
    try scene.close();
}

test "a target that breaks is told once, and its buffers come back" {
    for (0..20) |seed| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed +% seed });
        var pair: Pair = try .open(&scene);
        try expectEqual(@as(i32, 0), pair.forward());
        const network = &scene.kernel.network;
        const bytes: [3000]u8 = @splat('x');
        _ = peers.send(network, pair.source.peer, &bytes);
        for (0..seed % 5) |_| try scene.turn(5);
        peers.reset(network, pair.target.peer);
        for (0..2000) |_| {
            _ = peers.send(network, pair.source.peer, bytes[0..100]);
            try scene.turn(5);
            if (scene.seen(.forwarded) > 0) break;
        }
        try expectEqual(@as(u32, 1), scene.seen(.forwarded));
        try expectEqual(seam.errno.pipe, scene.last(.forwarded).?.result);
        try scene.close();
    }
}

test "a source that goes leaves the target what it had, and a slot that is used again alone" {
    var scene: Scene = try .open(.{});
    var pair: Pair = try .open(&scene);
    try expectEqual(@as(i32, 0), pair.forward());
    const network = &scene.kernel.network;
    const bytes: [2000]u8 = @splat('x');
    _ = peers.send(network, pair.source.peer, &bytes);
    try scene.turns(3);
    peers.reset(network, pair.source.peer);
    for (0..1000) |_| {
        try scene.turn(5);
        if (scene.seen(.close) > 0) break;
    }
    const next = try scene.connection();
    for (0..200) |_| try pair.turn();
    try expectEqual(@as(u32, 0), scene.seen(.forwarded));
    const own = next.handle;
    const count = calls.connection_forwarded(scene.engine, own.index, own.generation);
    try expectEqual(@as(f64, 0), count);
    try scene.close();
}

test "what cannot be forwarded is refused, and a forwarding that is ended gives the bytes back" {
    var scene: Scene = try .open(.{});
    var pair: Pair = try .open(&scene);
    const source = pair.source.handle;
    const engine = scene.engine;
    const call = calls.connection_forward;
    const errno = seam.errno;
    try expectEqual(errno.noent, call(engine, source.index, source.generation + 1, 0, 1));
    try expectEqual(errno.noent, call(engine, source.index, source.generation, 7, 99));
    try expectEqual(@as(i32, 0), pair.forward());
    try expectEqual(errno.busy, pair.forward());
    try expectEqual(@as(i32, 0), call(engine, source.index, source.generation, 0, 0));
    _ = peers.send(&scene.kernel.network, pair.source.peer, "back");
    for (0..100) |_| {
        try scene.turn(5);
        if (scene.seen(.data) > 0) break;
    }
    try expectEqual(@as(u32, 1), scene.seen(.data));
    try scene.close();
}
