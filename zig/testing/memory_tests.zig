//! Memory that the kernel was told of stands until it is done with it (I1), in situations that the
//! random schedules reach by luck alone. Free memory is poisoned, and the simulated kernel looks.

const std = @import("std");
const seam = @import("../kernel.zig");
const scenes = @import("scene.zig");
const peers = @import("../kernel/simulated.zig").peers;
const Scene = scenes.Scene;
const expectEqual = std.testing.expectEqual;

test "a time limit that the kernel has not taken yet keeps its duration when its splice is over" {
    var scene: Scene = try .open(.{});
    const file = try scene.open_file("a");
    const pipe = scene.kernel.network.pipe().?;
    var arguments = Scene.of_file(file, 4);
    arguments.fd_second = pipe.fd;
    arguments.offset_second = -1;
    arguments.timeout_ms = 50;
    const splice = try scene.start(.splice, arguments, "");
    try expectEqual(4, peers.send(&scene.kernel.network, pipe.peer, "abcd"));
    // The splice completes in this enter, and nobody reaps.
    try expectEqual(@as(i32, 0), scene.engine.flush_only());
    try expectEqual(@as(usize, 1), scene.kernel.cqes().len);
    scene.kernel.advance(0);
    // Its time limit is queued, and the kernel takes no more.
    scene.kernel.fate.faults.enter_again = 1000;
    try expectEqual(@as(i32, 0), scene.engine.flush_only());
    try expectEqual(@as(u32, 1), scene.kernel.queued());
    try scene.turn(0);
    try std.testing.expect((try scene.result(splice)).? > 0);
    try scene.turns(2);
    scene.kernel.fate.faults = .{};
    try scene.turns(2);
    try expectEqual(@as(u32, 0), scene.kernel.queued());
    for ([_]i32{ file, pipe.fd }) |fd| scene.kernel.close_fd(fd);
    try scene.close();
}

test "a zero-copy send that is refused goes again as a copy, though others were told to meanwhile" {
    var scene: Scene = try .open(.{ .zero_copy_min = 1 });
    const one = try scene.connection();
    const faults = &scene.kernel.fate.faults;
    faults.* = .{ .copied = 1000, .notify_late = 1000 };
    const first = try scene.lend(one.handle, "a");
    while (scene.kernel.outcomes.get(.send_zero_copy, .full) == 0) try scene.turn(0);
    try scene.turn(0); // its result is known, not yet that the kernel has copied
    faults.* = .{ .copied = 1000, .delayed = 1000 };
    const second = try scene.lend(one.handle, "b");
    for (0..20) |_| try scene.turn(0);
    try expectEqual(@as(f64, 1), @as(f64, @floatFromInt(scene.engine.counters.zero_copy_copied)));
    faults.* = .{ .zero_copy = 1000 };
    try scene.expect_outcome(first, 1); // all of it
    try scene.expect_outcome(second, 1);
    try expectEqual(@as(u32, 0), scene.seen(.close));
    var out: [4]u8 = undefined;
    const got = peers.receive(&scene.kernel.network, one.peer, &out);
    try std.testing.expectEqualStrings("ab", out[0..got]);
    try scene.close();
}
