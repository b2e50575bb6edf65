//! Forwarding through pipes on the simulated kernel: contents, order, back-pressure, lost ends.
//!
//! Every piece is taken for bulk here, so the first two go by buffers and the rest by pipes, which
//! are small, now and then not to be had, and spliced in parts. What the peers see is compared byte
//! for byte; closing a scene expects that no slot and no descriptor is left behind.

const std = @import("std");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const segments = @import("../segment.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const Connection = @import("../connection.zig").Connection;
const rules = @import("faults.zig");
const Scene = @import("scene.zig").Scene;
const Pair = @import("forwarding_tests.zig").Pair;
const fill = @import("forwarding_tests.zig").fill;
const peers = simulated.peers;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

/// Sockets hold from one byte to 64 KiB.
const turns_max = 300_000;

const faults: simulated.Faults = .{ .splice = 200, .pipe = 100, .delayed = 200 };

fn open_scene(seed: u64, wanted: simulated.Faults) !Scene {
    return .open(.{
        .seed = std.testing.random_seed +% seed,
        .splice_min = 1,
        .faults = wanted,
    });
}

fn source_of(pair: *const Pair) *Connection {
    return pair.scene.engine.connections.at(pair.source.handle.index);
}

fn target_of(pair: *const Pair) *Connection {
    return pair.scene.engine.connections.at(pair.target.handle.index);
}

/// Forwards until a pipe has carried something; the bytes so far.
fn open_pipes(pair: *Pair) !usize {
    try expectEqual(@as(i32, 0), pair.forward());
    const bytes: [1]u8 = .{'x'};
    var sent: usize = 0;
    for (0..1000) |_| {
        if (pair.scene.engine.counters.forwards_spliced > 0) return sent;
        if (pair.len == sent) sent += pair.send(&bytes);
        try pair.turn();
    }
    return error.NoPipe;
}

/// Forwards until the target has bytes of a pipe that it finds no room for.
fn stall(pair: *Pair) !void {
    _ = try open_pipes(pair);
    const bytes: [4000]u8 = @splat('x');
    const sending = &target_of(pair).sending;
    for (0..turns_max) |turn| {
        _ = pair.send(&bytes);
        try pair.scene.turn(5);
        if (sending.head == segments.none) continue;
        const is_pipe = pair.scene.engine.segments.at(sending.head).pipe != null;
        if (is_pipe and sending.pending) return;
        if (turn % 1000 == 999) pair.read(); // it stalled with a buffer
    }
    return error.NeverStalls;
}

fn close(scene: *Scene) !void {
    scene.kernel.fate.faults = .{};
    const held = teardown.cancel_everything(scene.engine, 10_000);
    const left = scene.kernel.network.open_descriptors();
    const misused = scene.kernel.network.bad_descriptors;
    scene.free();
    try expectEqual(@as(u32, 0), held);
    try expectEqual(@as(u32, 0), left);
    try expectEqual(@as(u32, 0), misused);
}

test "bytes go through pipes in order, and the end behind the last of them" {
    var spliced: u64 = 0;
    for (0..40) |seed| {
        var scene = try open_scene(seed, if (seed % 2 == 0) .{} else faults);
        var pair: Pair = try .open(&scene);
        try expectEqual(@as(i32, 0), pair.forward());
        var bytes: [20_000]u8 = undefined;
        fill(&bytes);
        var sent: usize = 0;
        for (0..turns_max) |turn| {
            const chunk = bytes[sent..@min(sent + 1 + turn * 37 % 3000, bytes.len)];
            if (chunk.len > 0) {
                sent += pair.send(chunk);
                if (sent == bytes.len) peers.half_close(&scene.kernel.network, pair.source.peer);
            }
            try pair.turn();
            if (scene.seen(.forwarded) > 0) break;
        }
        try expectEqual(@as(i32, 0), scene.last(.forwarded).?.result);
        for (0..100) |_| pair.read();
        try std.testing.expectEqualSlices(u8, &bytes, pair.received[0..pair.len]);
        const source = pair.source.handle;
        const count = calls.connection_forwarded(scene.engine, source.index, source.generation);
        try expectEqual(@as(f64, bytes.len), count);
        try expectEqual(@as(u32, 0), scene.seen(.data));
        spliced += scene.engine.counters.forwards_spliced;
        try close(&scene);
    }
    try expect(spliced > 100);
}

test "what is written to the target meanwhile is in one piece, and in order" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, faults);
        var pair: Pair = try .open(&scene);
        try expectEqual(@as(i32, 0), pair.forward());
        var forwarded: u32 = 0;
        var written: u32 = 0;
        for (0..turns_max) |turn| {
            // Forwarded bytes count from 0 to 99, written ones from 100 to 199.
            var bytes: [300]u8 = undefined;
            for (&bytes, 0..) |*byte, i| byte.* = @intCast((forwarded + i) % 100);
            if (turn < 2000) forwarded += @intCast(pair.send(bytes[0 .. 1 + turn * 31 % 300]));
            if (turn < 2000 and turn % 7 == 0) {
                for (&bytes, 0..) |*byte, i| byte.* = @intCast(100 + (written + i) % 100);
                const target = pair.target.handle;
                const taken = calls.connection_write(
                    scene.engine,
                    target.index,
                    target.generation,
                    &bytes,
                    40,
                );
                written += @intCast(@max(taken, 0));
            }
            try pair.turn();
            if (turn > 2000 and pair.len == forwarded + written) break;
        }
        var seen = [2]u32{ 0, 0 };
        for (pair.received[0..pair.len]) |byte| {
            const kind = byte / 100;
            try expectEqual(@as(u8, @intCast(seen[kind] % 100)), byte % 100);
            seen[kind] += 1;
        }
        try expectEqual([2]u32{ forwarded, written }, seen);
        try expect(scene.engine.counters.forwards_spliced > 0);
        try close(&scene);
    }
}

test "a target whose peer does not read holds the source back, with one pipe, and loses nothing" {
    for (0..10) |seed| {
        var scene = try open_scene(seed, .{ .splice = 100 });
        var pair: Pair = try .open(&scene);
        try expectEqual(@as(i32, 0), pair.forward());
        var bytes: [200_000]u8 = undefined;
        fill(&bytes);
        var sent: usize = 0;
        for (0..500) |_| {
            sent += pair.send(bytes[sent..]);
            try scene.turn(5);
        }
        // What the sockets and one pipe hold.
        try expect(sent < bytes.len);
        try expect(source_of(&pair).forwarding.pending <= 8);
        for (0..turns_max) |_| {
            if (sent < bytes.len) {
                sent += pair.send(bytes[sent..]);
                if (sent == bytes.len) peers.half_close(&scene.kernel.network, pair.source.peer);
            }
            try pair.turn();
            if (scene.seen(.forwarded) > 0) break;
        }
        for (0..100) |_| pair.read();
        try std.testing.expectEqualSlices(u8, &bytes, pair.received[0..pair.len]);
        try close(&scene);
    }
}

test "a pipe outlives its source: what it holds is the target's" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, .{});
        var pair: Pair = try .open(&scene);
        try stall(&pair);
        const source = pair.source.handle;
        const sent_so_far = scene.engine.counters.bytes_received;
        _ = calls.connection_shut(scene.engine, source.index, source.generation, 2, 0);
        for (0..turns_max) |_| {
            try pair.turn();
            if (scene.seen(.close) > 0 and target_of(&pair).sending.is_empty()) break;
        }
        pair.read();
        try expectEqual(sent_so_far, @as(i64, @intCast(pair.len)));
        try close(&scene);
    }
}

test "a target that breaks with a full pipe is told once" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, .{ .splice = 100 });
        var pair: Pair = try .open(&scene);
        try stall(&pair);
        peers.reset(&scene.kernel.network, pair.target.peer);
        for (0..2000) |_| {
            try scene.turn(5);
            if (scene.seen(.forwarded) > 0) break;
        }
        try expectEqual(@as(u32, 1), scene.seen(.forwarded));
        try expectEqual(seam.errno.pipe, scene.last(.forwarded).?.result);
        try close(&scene);
    }
}

test "a source that is reset breaks with the reason, also if the splice has heard of it" {
    for (0..40) |seed| {
        var scene = try open_scene(seed, .{});
        var pair: Pair = try .open(&scene);
        _ = try open_pipes(&pair);
        peers.reset(&scene.kernel.network, pair.source.peer);
        for (0..1000) |_| {
            try pair.turn();
            if (scene.seen(.close) > 0) break;
        }
        try expectEqual(seam.errno.connreset, scene.last(.close).?.result);
        try expectEqual(@as(u32, 0), scene.seen(.forwarded)); // no FIN
        try close(&scene);
    }
}

test "a target that is terminated while it waits for room is gone" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, .{ .cancel_late = 300, .cancel_already = 300 });
        var pair: Pair = try .open(&scene);
        try stall(&pair);
        const target = pair.target.handle;
        _ = calls.connection_shut(scene.engine, target.index, target.generation, 2, 0);
        for (0..1000) |_| {
            try scene.turn(5);
            if (scene.seen(.close) > 0) break;
        }
        try expectEqual(target.index, scene.last(.close).?.index);
        try close(&scene);
    }
}

test "a target that is ended sends first what lies in the pipe" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, faults);
        var pair: Pair = try .open(&scene);
        try stall(&pair);
        const source = pair.source.handle;
        try expectEqual(@as(i32, 0), calls.connection_forward(
            scene.engine,
            source.index,
            source.generation,
            0,
            0,
        ));
        const target = pair.target.handle;
        _ = calls.connection_shut(scene.engine, target.index, target.generation, 0, 0);
        for (0..turns_max) |_| {
            try pair.turn();
            if (peers.view(&scene.kernel.network, pair.target.peer).?.ended) break;
        }
        try expect(peers.view(&scene.kernel.network, pair.target.peer).?.ended);
        // What came later is read as before.
        const engine = scene.engine;
        var told: i64 = 0;
        for (scene.records[0..scene.count]) |*record| {
            if (record.event == .data) told += record.result;
        }
        try expectEqual(engine.counters.bytes_received, @as(i64, @intCast(pair.len)) + told);
        try close(&scene);
    }
}

test "a ring that ends with pipes full and idle leaves no descriptor" {
    for (0..20) |seed| {
        var scene = try open_scene(seed, .{});
        var pair: Pair = try .open(&scene);
        try stall(&pair);
        var other: Pair = try .open(&scene);
        _ = try open_pipes(&other);
        try expect(scene.engine.pipes.count > scene.engine.pipes.idle_count);
        try close(&scene);
    }
}

test "without a pipe, or a socket that does not block, buffers serve" {
    for ([_]simulated.Faults{ .{ .pipe = 1000 }, .{ .option = 1000 } }) |wanted| {
        var scene = try open_scene(0, .{});
        var pair: Pair = try .open(&scene);
        scene.kernel.fate.faults = wanted;
        try expectEqual(@as(i32, 0), pair.forward());
        var bytes: [20_000]u8 = undefined;
        fill(&bytes);
        var sent: usize = 0;
        for (0..turns_max) |_| {
            sent += pair.send(bytes[sent..@min(sent + 700, bytes.len)]);
            try pair.turn();
            if (pair.len == bytes.len) break;
        }
        try std.testing.expectEqualSlices(u8, &bytes, pair.received[0..pair.len]);
        try expectEqual(@as(u64, 0), scene.engine.counters.forwards_spliced);
        try close(&scene);
    }
}

test "a receive that finds nothing on a socket that does not block is made again" {
    var scene = try open_scene(0, .{});
    var pair: Pair = try .open(&scene);
    _ = try open_pipes(&pair);
    try expect(rules.add(.{ .kind = .receive, .result = seam.errno.again }));
    peers.half_close(&scene.kernel.network, pair.source.peer);
    for (0..1000) |_| {
        try pair.turn();
        if (scene.seen(.forwarded) > 0) break;
    }
    try expectEqual(@as(u32, 1), rules.clear());
    try expectEqual(@as(i32, 0), scene.last(.forwarded).?.result);
    try close(&scene);
}

test "little at a time goes back to buffers, and is slower to leave them" {
    var scene: Scene = try .open(.{ .splice_min = 400 });
    var pair: Pair = try .open(&scene);
    try expectEqual(@as(i32, 0), pair.forward());
    const forwarding = &source_of(&pair).forwarding;
    const bytes: [500]u8 = @splat('x');
    var sent: usize = 0;
    for (0..turns_max) |_| {
        if (forwarding.way == .pipes) break;
        sent += pair.send(&bytes);
        try pair.turn();
    }
    try expect(forwarding.way == .pipes);
    for (0..turns_max) |_| {
        if (forwarding.way == .buffers) break;
        if (pair.len == sent) sent += pair.send(bytes[0..1]);
        try pair.turn();
    }
    try expect(forwarding.way == .buffers);
    try expect(forwarding.patience > @import("../splicing.zig").patience_min);
    try expectEqual(sent, pair.len);
    try close(&scene);
}
