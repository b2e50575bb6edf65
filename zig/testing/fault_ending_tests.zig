//! Failures put into how connections begin and end, into cancels, and into what a ring cannot do
//! without, on the ring and on its twin: one end is told, and every descriptor is given back.

const std = @import("std");
const calls = @import("../calls.zig");
const failures = @import("../kernel/failures.zig");
const mailbox = @import("../mailbox.zig");
const seam = @import("../kernel.zig");
const Ground = @import("ground.zig").Ground;
const Scene = @import("scene.zig").Scene;
const errno = seam.errno;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const linux = seam.linux;

// Beginnings and ends --------------------------------------------------------------------------

fn connects(ground: *Ground) anyerror!void {
    const listener = try ground.listen();
    for (comptime failures.of(.CONNECT) ++ [_]i32{errno.canceled}) |code| {
        errdefer std.debug.print("fault: connect with {d}\n", .{code});
        try ground.force(.{ .kind = .connect, .result = code });
        const connection = try ground.knock(listener);
        const failed = try ground.wait_for(.connect_failed, connection);
        try expectEqual(code, failed.result);
        try ground.struck(1);
    }
    try expectEqual(0, ground.seen(.open));
    _ = try ground.knock(listener);
    try ground.wait_until_seen(.open, 2);
}

test "a connect that fails is told once, and its descriptor is closed" {
    try Ground.each(.{}, connects);
}

fn ends(ground: *Ground) anyerror!void {
    for (failures.of(.SHUTDOWN)) |code| {
        try ground.force(.{ .kind = .shutdown, .how = .afterwards, .result = code });
        const both = try ground.pair();
        try ground.write(both.handle, "bye");
        try ground.shut(both.handle, .end);
        try ground.expect_read(both.peer, "bye");
        linux.close(both.peer);
        const closed = try ground.wait_for(.close, both.handle);
        // The peer is gone already, which the receive reports.
        try expectEqual(if (code == errno.notconn) 0 else code, closed.result);
        try ground.struck(1);
        ground.forget();
    }
    for (failures.of(.CLOSE)) |code| {
        try ground.force(.{ .kind = .close, .how = .afterwards, .result = code });
        const both = try ground.pair();
        const fd = ground.engine.connections.at(both.handle.index).fd;
        try ground.shut(both.handle, .terminate);
        try expectEqual(0, (try ground.wait_for(.close, both.handle)).result);
        try expect(!ground.engine.kernel.is_open(fd)); // whatever it said: close(2)
        try ground.struck(1);
        linux.close(both.peer);
        ground.forget();
    }
}

test "a shutdown or a close that fails ends the connection all the same, once" {
    try Ground.each(.{}, ends);
}

fn cancelled(ground: *Ground) anyerror!void {
    for ([_]i32{ errno.noent, errno.already, errno.inval }) |code| {
        try ground.force(.{ .kind = .receive_cancel, .how = .afterwards, .result = code });
        const both = try ground.pair();
        try ground.turns(2);
        const handle = both.handle;
        _ = calls.connection_pause(ground.engine, handle.index, handle.generation, 1);
        try ground.turns(3);
        try expect(linux.write(both.peer, "held") == 4);
        try ground.turns(3);
        try expectEqual(0, ground.seen(.data));
        _ = calls.connection_pause(ground.engine, handle.index, handle.generation, 0);
        const data = try ground.wait_for(.data, handle);
        try std.testing.expectEqualStrings("held", ground.bytes_of(data));
        try ground.struck(1);
        try ground.shut(handle, .terminate);
        _ = try ground.wait_for(.close, handle);
        linux.close(both.peer);
        ground.forget();
    }
}

test "what the cancel of a receive is answered does not matter" {
    try Ground.each(.{}, cancelled);
}

const cancel_answers = [_]i32{ errno.noent, errno.already, errno.inval };

fn stopped(ground: *Ground) anyerror!void {
    for (cancel_answers) |code| {
        try ground.force(.{ .kind = .listener_cancel, .how = .afterwards, .result = code });
        const listener = try ground.listen();
        try ground.turns(2);
        const generation = listener.generation;
        try expectEqual(0, calls.listener_stop(ground.engine, listener.index, generation));
        try expectEqual(0, (try ground.wait_for(.listener_closed, listener)).result);
        try ground.struck(1);
        ground.forget();
    }
}

fn given_up(ground: *Ground) anyerror!void {
    const bytes: [16384]u8 = @splat('x');
    for (cancel_answers) |code| {
        try ground.force(.{ .kind = .send_cancel, .how = .afterwards, .result = code });
        const both = try ground.pair();
        const handle = both.handle;
        const generation = handle.generation;
        // Nobody reads: at last a send waits in the kernel.
        for (0..100) |_| {
            _ = calls.connection_write(ground.engine, handle.index, generation, &bytes, bytes.len);
            try ground.turns(2);
        }
        try expect(ground.engine.connections.at(handle.index).sending.pending);
        try ground.shut(handle, .terminate);
        try expectEqual(0, (try ground.wait_for(.close, handle)).result);
        try ground.struck(1);
        linux.close(both.peer);
        ground.forget();
    }
}

fn hurried(ground: *Ground) anyerror!void {
    for (cancel_answers) |code| {
        try ground.force(.{ .kind = .deadline_cancel, .how = .afterwards, .result = code });
        const both = try ground.pair();
        const handle = both.handle;
        for ([_]u32{ 60_000, 5 }) |ms| {
            const outcome =
                calls.connection_timeout(ground.engine, handle.index, handle.generation, ms);
            try expectEqual(0, outcome);
            try ground.turns(2);
        }
        _ = try ground.wait_for(.timeout, handle);
        try ground.struck(1);
        try ground.shut(handle, .terminate);
        _ = try ground.wait_for(.close, handle);
        linux.close(both.peer);
        ground.forget();
    }
}

test "nor what those of an accept, of a send or of the clock are" {
    try Ground.each(.{}, stopped);
    try Ground.each(.{}, given_up);
    try Ground.each(.{}, hurried);
}

// What a ring cannot do without ----------------------------------------------------------------

fn without_clock(ground: *Ground) anyerror!void {
    const both = try ground.pair();
    defer linux.close(both.peer);
    try ground.force(.{ .kind = .deadline, .result = errno.nomem });
    const handle = both.handle;
    const set = calls.connection_timeout(ground.engine, handle.index, handle.generation, 50);
    try expectEqual(0, set);
    try std.testing.expectError(error.TurnFailed, ground.turns(5));
    try ground.struck(1);
    try expectEqual(errno.nomem, ground.engine.turn(0)); // from here on, always
    try expectEqual(errno.nomem, ground.ask(.nop, Scene.blank, ""));
}

test "without its clock a ring says so for ever, and spins on nothing" {
    try Ground.each(.{}, without_clock);
}

fn deaf(ground: *Ground) anyerror!void {
    try ground.force(.{ .kind = .bell, .result = errno.nomem });
    const token = ground.engine.posts.open(ground.engine);
    try expect(token > 0);
    _ = mailbox.post_number(@intCast(token), 1, 2);
    for (0..10) |_| {
        if (ground.engine.fatal != 0) break;
        _ = ground.engine.turn(1);
    }
    try ground.struck(1);
    try expectEqual(errno.nomem, ground.engine.turn(0));
}

test "a ring that can no longer hear its posters says so" {
    try Ground.each(.{}, deaf);
}
