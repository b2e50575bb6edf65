//! Failures that no kernel can be talked into, put into users' operations on the ring and on its
//! twin: each tells one outcome, the one that was forced, and leaves nothing behind.
//!
//! Connections and listeners have theirs in `fault_connection_tests.zig` and
//! `fault_ending_tests.zig`.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const failures = @import("operations/failures.zig");
const faults = @import("faults.zig");
const registration = @import("../registration.zig");
const seam = @import("../kernel.zig");
const scenes = @import("scene.zig");
const Ground = @import("ground.zig").Ground;
const Features = @import("../features.zig").Set;
const Scene = scenes.Scene;
const errno = seam.errno;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const linux = seam.linux;

const blank = Scene.blank;
const option = Scene.option;

/// Something to name: a socket, and memory that may be read and written.
const Subject = struct {
    fd: i32,
    other: i32,
    memory: [64]u8 align(64) = @splat('m'),

    fn open() !Subject {
        var ends: [2]i32 = undefined;
        try expect(linux.socket_pair(&ends) >= 0);
        return .{ .fd = ends[0], .other = ends[1] };
    }

    fn close(subject: *const Subject) void {
        linux.close(subject.fd);
        linux.close(subject.other);
    }
};

const Call = struct { arguments: abi.Arguments, input: []const u8 = "" };

const address = Scene.local(9);

/// What makes an operation of this kind go on its way.
fn call_of(kind: abi.OperationKind, subject: *Subject) Call {
    var call: Call = .{ .arguments = Scene.of_file(subject.fd, 16) };
    const arguments = &call.arguments;
    switch (kind) {
        .write, .send, .sendmsg => call.input = "sixteen bytes...",
        .writev, .readv => {
            if (kind == .writev) call.input = "sixteen bytes...";
        },
        .openat, .statx, .unlink, .mkdir => {
            arguments.fd = -100; // AT_FDCWD
            call.input = "/nowhere/at/all";
        },
        .rename, .link, .symlink => {
            arguments.fd = -100;
            arguments.fd_second = -100;
            call.input = "/nowhere\x00/at/all";
            arguments.extra = "/nowhere".len;
        },
        .bind, .connect => call.input = std.mem.asBytes(&address),
        .splice => arguments.fd_second = subject.other,
        .poll => arguments.mode = 1, // POLLIN
        .socket => {
            arguments.fd = std.posix.AF.UNIX;
            arguments.mode = std.posix.SOCK.STREAM;
        },
        .close => arguments.fd = linux.duplicate(subject.fd),
        .timeout => arguments.offset = 1,
        .read_fixed, .write_fixed => {
            arguments.options = option(.native_memory);
            arguments.address = @floatFromInt(@intFromPtr(&subject.memory));
        },
        else => {},
    }
    return call;
}

fn every_errno(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    const pair = [2]f64{ @floatFromInt(@intFromPtr(&subject.memory)), subject.memory.len };
    const buffers = @intFromEnum(abi.Resource.buffers);
    try expectEqual(0, registration.register(ground.engine, buffers, &pair, 1));
    for (std.enums.values(abi.OperationKind)) |kind| {
        // A timer without a chain is no operation of the kernel's.
        if (kind == .nop or kind == .timeout) continue;
        const listed = failures.listed(kind);
        try expect(listed.len > 0);
        for (listed) |code| try expect_forced(ground, &subject, kind, code);
        try expect_forced(ground, &subject, kind, errno.canceled);
        ground.forget();
    }
    try expectEqual(0, ground.engine.operations.claimed_count);
    try expectEqual(0, ground.engine.counters.cqes_stale);
}

fn expect_forced(ground: *Ground, subject: *Subject, kind: abi.OperationKind, code: i32) !void {
    errdefer std.debug.print("fault: {t} with {d}\n", .{ kind, code });
    const how: faults.How = if (kind == .close) .afterwards else .instead;
    try ground.force(.{ .kind = .of(kind), .how = how, .result = code });
    const call = call_of(kind, subject);
    const operation = try ground.start(kind, call.arguments, call.input);
    try expectEqual(code, try ground.outcome(operation));
    try ground.struck(1);
    // Whatever a close says, the descriptor is gone (close(2)).
    if (kind == .close) try expect(!ground.engine.kernel.is_open(call.arguments.fd));
}

test "each failure that a man page lists is told once, as it is, and leaves nothing" {
    try Ground.each(.{}, every_errno);
}

fn chains(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    for ([_]bool{ true, false }) |hard| {
        try ground.force(.{ .kind = .of(.fsync), .result = errno.io });
        try expectEqual(0, calls.batch_begin(ground.engine));
        var call = call_of(.fsync, &subject);
        call.arguments.options = if (hard) option(.hard_link) else option(.link);
        const first = try ground.start(.fsync, call.arguments, "");
        const second = try ground.start(.nop, blank, "");
        try expectEqual(0, calls.batch_end(ground.engine));
        try expectEqual(errno.io, try ground.outcome(first));
        const expected: i32 = if (hard) 0 else errno.canceled;
        try expectEqual(expected, try ground.outcome(second));
        try ground.struck(1);
    }
}

test "a forced failure breaks a soft chain and no hard one, as the kernel's own does" {
    try Ground.each(.{}, chains);
    if (!faults.injects()) return;
    // The way for kernels that let no NOP fail.
    faults.set_injects(false);
    defer faults.set_injects(true);
    try Ground.each(.{}, chains);
}

fn rhythm(ground: *Ground) anyerror!void {
    try ground.force(.{ .kind = .of(.nop), .nth = 2, .every = 3, .result = errno.io });
    for (1..10) |n| {
        const operation = try ground.start(.nop, blank, "");
        const expected: i32 = if (n % 3 == 2) errno.io else 0;
        try expectEqual(expected, try ground.outcome(operation));
    }
    try ground.struck(3);
}

test "the n-th operation of a kind is struck, and those after it in rhythm" {
    try Ground.each(.{}, rhythm);
}

fn short(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    const text = "the whole of it";
    for ([_]abi.OperationKind{ .write, .send }) |kind| {
        try ground.force(.{ .kind = .of(kind), .how = .shortened, .result = 4 });
        var call = call_of(kind, &subject);
        call.arguments.offset = -1;
        if (kind == .send) call.arguments.offset = 0;
        call.arguments.length = text.len;
        const operation = try ground.start(kind, call.arguments, text);
        try expectEqual(4, try ground.outcome(operation));
        try ground.struck(1);
        try ground.expect_read(subject.other, text[0..4]);
    }
    try expect(linux.write(subject.other, text) == text.len);
    for ([_]abi.OperationKind{ .read, .recv }) |kind| {
        try ground.force(.{ .kind = .of(kind), .how = .shortened, .result = 4 });
        var call = call_of(kind, &subject);
        call.arguments.offset = if (kind == .read) -1 else 0;
        const operation = try ground.start(kind, call.arguments, "");
        try expectEqual(4, try ground.outcome(operation));
        try ground.struck(1);
    }
    try ground.expect_read(subject.fd, text[8..]);
}

test "a short result is a result, and the rest is still there" {
    try Ground.each(.{}, short);
}

fn ended_poll(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    try ground.force(.{ .kind = .of(.poll), .how = .ending, .nth = 2, .result = errno.nomem });
    var call = call_of(.poll, &subject);
    call.arguments.options = option(.multishot);
    const poll = try ground.start(.poll, call.arguments, "");
    for (1..3) |count| {
        try ground.turns(3);
        try expect(linux.write(subject.other, "x") == 1);
        try ground.wait_until_seen(.completion, @intCast(count));
        try expectEqual(1, ground.records[ground.count - 1].extra); // there are more
    }
    try ground.wait_until_seen(.completion, 3);
    try expectEqual(errno.nomem, (try ground.wait_for(.completion, poll)).result);
    try ground.struck(1);
    try ground.expect_read(subject.fd, "xx");
}

test "a multishot that fails has told what came before, and fails once" {
    try Ground.each(.{}, ended_poll);
}

fn cancels(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    for ([_]i32{ errno.noent, errno.already, errno.badf, errno.inval }) |code| {
        try ground.force(.{ .kind = .cancel, .how = .afterwards, .result = code });
        const call = call_of(.recv, &subject);
        const operation = try ground.start(.recv, call.arguments, "");
        try ground.turns(2);
        const answer = calls.cancel(ground.engine, operation.index, operation.generation);
        try expectEqual(0, answer);
        // Its own completion says what became of it, whatever the request is told (I2).
        try expectEqual(errno.canceled, try ground.outcome(operation));
        try ground.turns(4);
        try ground.struck(1);
    }
    try expectEqual(0, ground.engine.pending_cancels);
}

test "what a cancel is answered settles nothing" {
    try Ground.each(.{}, cancels);
}

test "IORING_NOP_INJECT_RESULT: the kernel itself says what it was told to" {
    if (!faults.injects()) {
        std.debug.print("fault: skipped, this kernel's NOP says 0 only (before 6.11)\n", .{});
        return error.SkipZigTest;
    }
    var ground = try Ground.open(.{ .backend = .uring });
    const kernel = &ground.engine.kernel;
    for ([_]i32{ errno.io, errno.canceled, -4095, 7, std.math.maxInt(i32) }) |result| {
        const entry = kernel.sqe().?;
        faults.prepare_injected(entry, result);
        entry.user_data = 1;
        _ = kernel.enter(1, 1000);
        try expectEqual(1, kernel.cqes().len);
        try expectEqual(result, kernel.cqes()[0].res);
        kernel.advance(1);
    }
    try ground.close();
}

const burst = 250;

fn overflow(ground: *Ground) anyerror!void {
    var subject = try Subject.open();
    defer subject.close();
    var polls: [burst]scenes.Handle = undefined;
    const call = call_of(.poll, &subject);
    for (&polls) |*one| one.* = try ground.start(.poll, call.arguments, "");
    try ground.turns(10);
    // All of them at once, into a queue of 64.
    try expect(linux.write(subject.other, "x") == 1);
    for (polls) |one| try expectEqual(1, try ground.outcome(one)); // POLLIN, once each
    const engine = ground.engine;
    // A deferring ring makes them as it is asked for them, the twin as there is room.
    const makes_all = engine.kernel == .uring and !engine.has(.defer_taskrun);
    try expectEqual(makes_all, engine.kernel.overflowed() > 0);
    try expectEqual(burst, ground.seen(.completion));
    try expectEqual(0, engine.operations.claimed_count);
}

test "a completion queue that overflows loses nothing: every poll ends, once" {
    try Ground.each(.{ .cq_entries = 64, .operations = 300 }, overflow);
    const disabled: Features = .initMany(&.{.defer_taskrun});
    try Ground.each(.{ .cq_entries = 64, .operations = 300, .disabled = disabled }, overflow);
}
