//! Offloaded operations: one outcome each, whoever is first: the thread that performs them, a
//! cancel, or the end of the ring.
//!
//! The thread is played by the test: it posts an outcome when it likes.

const std = @import("std");
const abi = @import("../abi.zig");
const block = @import("../block.zig");
const calls = @import("../calls.zig");
const mailbox = @import("../mailbox.zig");
const seam = @import("../kernel.zig");
const teardown = @import("../teardown.zig");
const scenes = @import("scene.zig");
const errno = seam.errno;
const expectEqual = std.testing.expectEqual;
const Handle = scenes.Handle;
const Scene = scenes.Scene;

fn start(scene: *Scene) !Handle {
    return scene.handle(calls.offload(scene.engine));
}

fn token_of(scene: *Scene) !u32 {
    return @intCast(scene.engine.posts.open(scene.engine));
}

/// The other thread is done.
fn done(scene: *Scene, handle: Handle) !i32 {
    const header = block.map(8) orelse return error.OutOfMemory;
    defer header.release();
    const token = try token_of(scene);
    return mailbox.post_outcome(token, handle.index, handle.generation, header.address());
}

test "an outcome that is posted ends the operation, and its block is the ring's for a turn" {
    const before = block.count();
    var scene: Scene = try .open(.{});
    const operation = try start(&scene);
    try scene.turns(2);
    try expectEqual(null, try scene.result(operation));
    try expectEqual(0, try done(&scene, operation));
    try scene.expect_outcome(operation, 0);
    const record = scene.records[scene.count - 1];
    try expectEqual(abi.Event.completion, record.event);
    try expectEqual(8, scene.engine.posts.adopt(record.data));
    const header = block.of(record.data).?;
    block.handed_over(header);
    header.release();
    try scene.turns(1);
    try expectEqual(before, block.count());
    try scene.close();
}

test "a cancel ends one that nobody has finished, and what is posted later finds nobody" {
    const before = block.count();
    var scene: Scene = try .open(.{});
    const operation = try start(&scene);
    try scene.turns(1);
    try expectEqual(0, scene.cancel(operation));
    try expectEqual(errno.already, scene.cancel(operation));
    try scene.expect_outcome(operation, errno.canceled);
    try expectEqual(0, try done(&scene, operation));
    try scene.turns(3);
    try scene.expect_outcome(operation, errno.canceled);
    try expectEqual(before, block.count());
    try scene.close();
}

test "an outcome that was posted before the cancel wins" {
    for ([_]bool{ false, true }) |cancels_first| {
        var scene: Scene = try .open(.{});
        const operation = try start(&scene);
        if (cancels_first) try expectEqual(0, scene.cancel(operation));
        try expectEqual(0, try done(&scene, operation));
        if (!cancels_first) try expectEqual(0, scene.cancel(operation));
        // Both were there when the turn came: the result is not thrown away.
        try scene.expect_outcome(operation, 0);
        try scene.close();
    }
}

test "a cancel comes after more posts than one turn takes" {
    var scene: Scene = try .open(.{});
    const token = try token_of(&scene);
    for (0..200) |i| try expectEqual(0, mailbox.post_number(token, 1, @floatFromInt(i)));
    const operation = try start(&scene);
    try expectEqual(0, try done(&scene, operation));
    try expectEqual(0, scene.cancel(operation));
    try scene.expect_outcome(operation, 0);
    try scene.close();
}

test "an outcome of another generation, or of an operation of the kernel's, ends nothing" {
    const before = block.count();
    var scene: Scene = try .open(.{});
    const operation = try start(&scene);
    const nop = try scene.start(.nop, Scene.blank, "");
    try expectEqual(0, try done(&scene, .{
        .index = operation.index,
        .generation = operation.generation + 1,
    }));
    try expectEqual(0, try done(&scene, nop));
    try expectEqual(0, try done(&scene, .{ .index = 9999, .generation = 1 }));
    try scene.expect_outcome(nop, 0);
    try expectEqual(null, try scene.result(operation));
    try expectEqual(before, block.count());
    try scene.close();
}

test "the end of a ring waits for no other thread, and keeps no block" {
    const before = block.count();
    var scene: Scene = try .open(.{});
    for (0..3) |_| _ = try start(&scene);
    const finished = try start(&scene);
    try expectEqual(0, scene.cancel(try start(&scene)));
    try expectEqual(0, try done(&scene, finished));
    const clock_before = scene.kernel.clock.now;
    try expectEqual(0, teardown.cancel_everything(scene.engine, 60_000));
    try std.testing.expect(scene.kernel.clock.now - clock_before < std.time.ns_per_s);
    try expectEqual(before, block.count());
    try scene.close();
}
