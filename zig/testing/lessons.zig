//! Mistakes that earlier systems made, each as a test that the engine does not make it.
//!
//! `docs/lessons.md` lists them all, with whose they were and where each is tested. Here are those
//! that show in the native half alone.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const operations = @import("../operation.zig");
const slots = @import("../slots.zig");
const teardown = @import("../teardown.zig");
const simulated = @import("../kernel/simulated.zig");
const scenes = @import("scene.zig");
const peers = simulated.peers;
const errno = seam.errno;
const Scene = scenes.Scene;
const Handle = scenes.Handle;
const blank = Scene.blank;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;

fn with_link(arguments: abi.Arguments) abi.Arguments {
    var linked = arguments;
    linked.options |= Scene.option(.link);
    return linked;
}

test "a link holds wherever the queue stood when its member came" {
    // AuraIO flagged the previous entry afterwards, which may have been submitted by then.
    for (0..10) |queued| {
        var scene: Scene = try .open(.{ .entries = 4, .operations = 32 });
        for (0..queued) |_| _ = try scene.start(.nop, blank, "");
        try expectEqual(@as(i32, 0), calls.batch_begin(scene.engine));
        const closed = with_link(Scene.of_file(77, 1));
        const first = try scene.start(.write, closed, "x");
        const second = try scene.start(.fsync, Scene.of_file(77, 0), "");
        try expectEqual(@as(i32, 0), calls.batch_end(scene.engine));
        try scene.expect_outcome(first, errno.badf);
        try scene.expect_outcome(second, errno.canceled);
        try scene.close();
    }
}

test "a handle whose operation is over cancels nobody" {
    // AuraIO's handles were places: cancelling an old one ended whoever had the place by then.
    var scene: Scene = try .open(.{ .operations = 1 });
    const first = try scene.start(.nop, blank, "");
    try scene.expect_outcome(first, 0);
    try scene.turns(1);
    var arguments = blank;
    arguments.offset = 1000;
    const second = try scene.start(.timeout, arguments, "");
    try expectEqual(first.index, second.index);
    for (0..2) |_| {
        try expectEqual(errno.noent, scene.cancel(first));
        try scene.turns(3);
        try expectEqual(@as(?i32, null), try scene.result(second));
    }
    try expectEqual(@as(i32, 0), scene.cancel(second));
    try scene.expect_outcome(second, errno.canceled);
    try scene.close();
}

test "a teardown ends a read of a pipe that nobody writes to" {
    // AuraIO's destroy waited for it for ever.
    var scene: Scene = try .open(.{});
    const pipe = scene.kernel.network.pipe().?;
    _ = try scene.start(.read, Scene.of_stream(pipe.fd, 4), "");
    try scene.turns(2);
    try expectEqual(@as(u32, 1), teardown.in_flight(scene.engine));
    try expectEqual(@as(u32, 0), teardown.cancel_everything(scene.engine, 1000));
    scene.kernel.close_fd(pipe.fd);
    try scene.close();
}

test "a teardown on a thread that hardly runs gives up nothing that still ends" {
    var scene: Scene = try .open(.{ .entries = 2, .operations = 64 });
    const pipe = scene.kernel.network.pipe().?;
    for (0..40) |_| _ = try scene.start(.read, Scene.of_stream(pipe.fd, 4), "");
    try scene.turns(40);
    scene.kernel.clock.stall = 50 * std.time.ns_per_ms;
    const began = scene.kernel.clock.now;
    try expectEqual(@as(u32, 0), teardown.cancel_everything(scene.engine, 100));
    try expect(scene.kernel.clock.now - began > 200 * std.time.ns_per_ms);
    scene.kernel.close_fd(pipe.fd);
    try scene.close();
}

test "a cancel before the submission keeps the operation from the kernel" {
    // senders-io sent the cancel before there was anything to cancel, and then the operation.
    var scene: Scene = try .open(.{});
    const pipe = scene.kernel.network.pipe().?;
    try expectEqual(@as(usize, 4), peers.send(&scene.kernel.network, pipe.peer, "abcd"));
    const cancelled = try scene.start(.read, Scene.of_stream(pipe.fd, 4), "");
    try expectEqual(@as(i32, 0), scene.cancel(cancelled));
    try scene.expect_outcome(cancelled, errno.canceled);
    var got: usize = 0;
    while (got < 4) {
        const read = try scene.start(.read, Scene.of_stream(pipe.fd, 4), "");
        const count = try scene.outcome(read);
        var bytes: [4]u8 = undefined;
        const len: u32 = @intCast(count);
        try expectEqual(@as(i32, 0), calls.operation_read(scene.engine, read.index, &bytes, len));
        try std.testing.expectEqualStrings("abcd"[got..][0..len], bytes[0..len]);
        got += len;
    }
    scene.kernel.close_fd(pipe.fd);
    try scene.close();
}

test "a cancel of a member that waits in its chain is kept until it can be found" {
    var scene: Scene = try .open(.{});
    const first_pipe = scene.kernel.network.pipe().?;
    const second_pipe = scene.kernel.network.pipe().?;
    try expectEqual(@as(i32, 0), calls.batch_begin(scene.engine));
    var hard = Scene.of_stream(first_pipe.fd, 1);
    hard.options = Scene.option(.hard_link);
    const first = try scene.start(.read, hard, "");
    const second = try scene.start(.read, Scene.of_stream(second_pipe.fd, 1), "");
    try expectEqual(@as(i32, 0), calls.batch_end(scene.engine));
    try scene.turns(2);
    try expectEqual(@as(i32, 0), scene.cancel(second));
    try scene.turns(5);
    try expectEqual(@as(?i32, null), try scene.result(second));
    _ = peers.send(&scene.kernel.network, first_pipe.peer, "x");
    try scene.expect_outcome(first, 1);
    try scene.expect_outcome(second, errno.canceled);
    for ([_]i32{ first_pipe.fd, second_pipe.fd }) |fd| scene.kernel.close_fd(fd);
    try scene.close();
}

test "an accept that succeeds in spite of its cancel hands the descriptor over" {
    // In senders-io the cancelled flag won: the accepted descriptor was nobody's.
    var succeeded: u32 = 0;
    for (0..40) |seed| {
        var scene: Scene = try .open(.{ .seed = seed, .faults = .{ .cancel_already = 1000 } });
        const listener = try listening(&scene);
        const accept = try scene.start(.accept, Scene.of_file(listener, 0), "");
        try scene.turns(2);
        _ = try scene.knock(listener);
        const before = scene.kernel.network.open_descriptors();
        try expectEqual(@as(i32, 0), scene.cancel(accept));
        const result = try scene.outcome(accept);
        const made = scene.kernel.network.open_descriptors() - before;
        if (result >= 0) {
            succeeded += 1;
            try expectEqual(@as(u32, 1), made);
            scene.kernel.close_fd(result);
        } else {
            try expectEqual(errno.canceled, result);
            try expectEqual(@as(u32, 0), made);
        }
        scene.kernel.close_fd(listener);
        try scene.close();
    }
    try expect(succeeded > 5 and succeeded < 35); // both ways were gone
}

fn listening(scene: *Scene) !i32 {
    const any = seam.SocketAddress.from_boundary(&Scene.local(0)).?;
    const fd = scene.kernel.socket(&any);
    try expectEqual(@as(i32, 0), scene.kernel.bind(fd, &any));
    try expectEqual(@as(i32, 0), scene.kernel.listen(fd, 8));
    return fd;
}

test "a descriptor that is made while the ring is torn down is closed" {
    for (0..20) |seed| {
        var scene: Scene = try .open(.{ .seed = seed, .faults = .{ .cancel_already = 1000 } });
        const listener = try listening(&scene);
        _ = try scene.start(.accept, Scene.of_file(listener, 0), "");
        try scene.turns(2);
        _ = try scene.knock(listener);
        try expectEqual(@as(u32, 0), teardown.cancel_everything(scene.engine, 1000));
        try expectEqual(@as(u32, 1), scene.kernel.network.open_descriptors());
        scene.kernel.close_fd(listener);
        try scene.close();
    }
}

test "what a completion submits finds the head moved, and every completion comes once" {
    // senders-io dispatched first: a handler that turned the ring met the same completion again.
    // With one entry, the accept that finds no descriptor submits its pause through a full queue.
    var scene: Scene = try .open(.{
        .entries = 1,
        .cq_entries = 2,
        .limits = .{ .descriptors = 3 },
    });
    const listener = try scene.listen();
    const fd = scene.listener_fd(listener);
    while (scene.kernel.network.create() >= 0) {} // the last descriptors
    for (0..6) |_| _ = try scene.knock(fd);
    var nops: [12]Handle = undefined;
    for (&nops) |*nop| {
        nop.* = try scene.start(.nop, blank, "");
        try scene.turn(0);
    }
    for (nops) |nop| try scene.expect_outcome(nop, 0);
    try scene.turns(50);
    try expect(scene.engine.counters.accepts_failed > 0);
    for (3..6) |number| scene.kernel.close_fd(@intCast(number));
    scene.engine.listeners.at(listener.index).fd = 99; // closed above, with the others
    scene.free();
}

test "with a full queue nothing fails but what is new, and all goes on afterwards" {
    // senders-io threw where nothing may be thrown.
    var scene: Scene = try .open(.{ .entries = 2, .operations = 64 });
    const one = try scene.connection();
    scene.kernel.fate.faults.enter_busy = 1000;
    var started: [64]Handle = undefined;
    var count: usize = 0;
    const refusal: i32 = while (count < started.len) : (count += 1) {
        started[count] = scene.handle(scene.ask(.nop, blank, "")) catch break errno.again;
    } else 0;
    try expectEqual(errno.again, refusal); // bounded, long before the table is full
    const cancelled = started[0..count][count / 2 ..];
    for (cancelled) |nop| try expectEqual(@as(i32, 0), scene.cancel(nop));
    const index = one.handle.index;
    const generation = one.handle.generation;
    try expectEqual(@as(i32, 3), calls.connection_write(scene.engine, index, generation, "abc", 3));
    try expectEqual(@as(i32, 0), calls.connection_pause(scene.engine, index, generation, 1));
    try expectEqual(@as(i32, 0), calls.connection_shut(scene.engine, index, generation, 1, 0));
    const listener = try scene.listen();
    _ = calls.listener_stop(scene.engine, listener.index, listener.generation);
    try scene.turns(20);
    try expectEqual(@as(i32, 0), scene.engine.fatal);
    scene.kernel.fate.faults = .{};
    for (started[0 .. count / 2]) |nop| try scene.expect_outcome(nop, 0);
    for (cancelled) |nop| try scene.expect_outcome(nop, errno.canceled);
    var out: [8]u8 = undefined;
    try scene.turns(50);
    const got = peers.receive(&scene.kernel.network, one.peer, &out);
    try std.testing.expectEqualStrings("abc", out[0..got]);
    try expectEqual(@as(u32, 1), scene.seen(.close));
    try scene.close();
}

test "what is registered reaches the kernel, is used by its number, and leaves it again" {
    // safer-ring kept a table of its own and told the kernel nothing.
    var scene: Scene = try .open(.{});
    const file = try scene.open_file("a");
    var memory: [64]u8 align(64) = @splat('m');
    const pairs = [_]f64{ @floatFromInt(@intFromPtr(&memory)), memory.len };
    const buffers = @intFromEnum(abi.Resource.buffers);
    const files = @intFromEnum(abi.Resource.files);
    const registration = @import("../registration.zig");
    const engine = scene.engine;
    const registered = &scene.kernel.registered;
    try expectEqual(@as(i32, 0), registration.register(engine, buffers, &pairs, 1));
    const numbers = [_]f64{ @floatFromInt(file), 0 };
    try expectEqual(@as(i32, 0), registration.register(engine, files, &numbers, 1));
    try expect(registered.buffers_registered);
    try expectEqual(@intFromPtr(&memory), @intFromPtr(registered.buffers.items[0].ptr));
    if (engine.has(.registered_files)) try expectEqual(@as(u32, 1), registered.files_held());
    // By number alone: the descriptor is closed.
    var arguments = Scene.of_file(0, 8);
    arguments.options = Scene.option(.registered_file);
    arguments.offset_second = 8;
    if (engine.has(.registered_files)) scene.kernel.close_fd(file);
    try scene.expect_outcome(try scene.start(.write_fixed, arguments, ""), 8);
    @memset(&memory, 0);
    try scene.expect_outcome(try scene.start(.read_fixed, arguments, ""), 8);
    try std.testing.expectEqualStrings("mmmmmmmm", memory[8..16]);
    try expectEqual(@as(i32, 0), registration.request_unregister(engine, buffers));
    try expectEqual(@as(i32, 0), registration.request_unregister(engine, files));
    try expect(!registered.buffers_registered);
    try expectEqual(@as(u32, 0), registered.files_held());
    if (!engine.has(.registered_files)) scene.kernel.close_fd(file);
    try scene.close();
}

test "the order of a chain is the order in which the kernel works" {
    // safer-ring computed it and submitted in another one.
    for (0..30) |seed| {
        var scene: Scene = try .open(.{ .seed = seed, .faults = .{ .slow = 500, .delayed = 500 } });
        const file = try scene.open_file("a");
        try expectEqual(@as(i32, 0), calls.batch_begin(scene.engine));
        var members: [4]Handle = undefined;
        for (members[0..3], [_][]const u8{ "first", "again", "third" }) |*member, text| {
            member.* = try scene.start(.write, with_link(Scene.of_file(file, 5)), text);
        }
        members[3] = try scene.start(.read, Scene.of_file(file, 5), "");
        try expectEqual(@as(i32, 0), calls.batch_end(scene.engine));
        for (members) |member| try scene.expect_outcome(member, 5);
        var last: [5]u8 = undefined;
        const index = members[3].index;
        try expectEqual(@as(i32, 0), calls.operation_read(scene.engine, index, &last, 5));
        try std.testing.expectEqualStrings("third", &last);
        scene.kernel.close_fd(file);
        try scene.close();
    }
}

test "memory comes back from an operation that fails, in both phases" {
    // safer-ring dropped the buffer with every error.
    var scene: Scene = try .open(.{});
    try scene.expect_outcome(try scene.start(.write, Scene.of_file(77, 5), "bytes"), errno.badf);
    try expectEqual(errno.inval, scene.ask(.write, Scene.of_file(-1, 5), "bytes"));
    var fixed = Scene.of_file(3, 5);
    fixed.timeout_ms = 10; // it has a block, and nothing is registered
    try expectEqual(errno.noent, scene.ask(.write_fixed, fixed, ""));
    try scene.turns(1);
    try expectEqual(@as(u32, 0), scene.engine.transfers.used);
    try expectEqual(@as(u32, 0), scene.engine.operations.claimed_count);
    try scene.close();
}

test "byte totals go beyond 32 bits" {
    // ringline's totals were u32.
    var scene: Scene = try .open(.{});
    const one = try scene.connection();
    const before: i64 = std.math.maxInt(u32) - 10;
    scene.engine.counters.bytes_sent = before;
    scene.engine.counters.bytes_received = before;
    const text: [100]u8 = @splat('t');
    try expectEqual(100, calls.connection_write(
        scene.engine,
        one.handle.index,
        one.handle.generation,
        &text,
        text.len,
    ));
    try expectEqual(text.len, peers.send(&scene.kernel.network, one.peer, &text));
    try scene.turns(50);
    var stats: abi.Stats = undefined;
    try expectEqual(@as(i32, 0), calls.read_stats(scene.engine, &stats));
    const expected: f64 = @floatFromInt(before + 100);
    try expectEqual(expected, stats.bytes_sent);
    try expectEqual(expected, stats.bytes_received);
    try expect(expected > std.math.maxInt(u32));
    try scene.close();
}

test "a generation that is used up takes its slot out of service, on both sides of a handle" {
    // ringline's generations began again at 0, where old handles were good once more.
    var scene: Scene = try .open(.{ .operations = 2 });
    const first = try scene.start(.nop, blank, "");
    try scene.expect_outcome(first, 0);
    scene.engine.operations.entries[first.index].generation = std.math.maxInt(u32);
    try scene.turns(1);
    var last: ?Handle = null;
    for (0..6) |_| {
        const nop = try scene.start(.nop, blank, "");
        if (nop.index == first.index) {
            try expectEqual(@as(?Handle, null), last); // its last generation, once
            last = nop;
        }
        try scene.expect_outcome(nop, 0);
        try scene.turns(1);
    }
    try expectEqual(std.math.maxInt(u32), last.?.generation);
    try expectEqual(errno.noent, scene.cancel(last.?));
    try expectEqual(errno.noent, scene.cancel(.{ .index = first.index, .generation = 0 }));
    try scene.close();
}

test "a time-out of an operation that is over does not strike its successor" {
    // In ringline it hit whoever had the connection's place by then.
    var scene: Scene = try .open(.{ .operations = 1 });
    const pipe = scene.kernel.network.pipe().?;
    const first = try scene.start(.nop, blank, "");
    try scene.expect_outcome(first, 0);
    try scene.turns(1);
    const second = try scene.start(.read, Scene.of_stream(pipe.fd, 1), "");
    try expectEqual(first.index, second.index);
    try scene.turns(1);
    const late: slots.UserData = .{
        .slot = @intCast(first.index),
        .kind = .link_timeout,
        .generation = first.generation,
    };
    scene.engine.pending_cancels += 1; // its time-out was still counted
    complete(&scene, late, errno.time);
    try expect(!scene.engine.operations.at(second.index).timed_out);
    try expectEqual(@as(i32, 0), scene.cancel(second));
    try scene.expect_outcome(second, errno.canceled); // not -ETIMEDOUT
    scene.kernel.close_fd(pipe.fd);
    try scene.close();
}

fn complete(scene: *Scene, user_data: slots.UserData, result: i32) void {
    const cqe: seam.Cqe = .{ .user_data = @bitCast(user_data), .res = result, .flags = 0 };
    operations.complete(scene.engine, &cqe);
}

test "a completion of an operation that is over reaches nobody" {
    var scene: Scene = try .open(.{ .operations = 1 });
    const first = try scene.start(.nop, blank, "");
    try scene.expect_outcome(first, 0);
    try scene.turns(1);
    var arguments = blank;
    arguments.offset = 1000;
    const second = try scene.start(.timeout, arguments, "");
    try scene.turns(1);
    const late: slots.UserData = .{
        .slot = @intCast(first.index),
        .kind = .of(.nop),
        .generation = first.generation,
    };
    const stale = scene.engine.counters.cqes_stale;
    complete(&scene, late, 0);
    try expectEqual(stale + 1, scene.engine.counters.cqes_stale);
    try scene.turns(1);
    try expectEqual(@as(?i32, null), try scene.result(second));
    try scene.close();
}
