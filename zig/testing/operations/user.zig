//! The user's side of a schedule of operations: starts, batches, cancels, at random.
//!
//! A call's outcome is known before it is made, or it is a violation.

const std = @import("std");
const abi = @import("../../abi.zig");
const calls = @import("../../calls.zig");
const timers = @import("../../timers.zig");
const seam = @import("../../kernel.zig");
const model = @import("model.zig");
const building = @import("build.zig");
const input = @import("input.zig");
const descriptors = @import("descriptors.zig");
const registrations = @import("registrations.zig");
const settle = @import("settle.zig");
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;
const errno = seam.errno;

const Action = enum { start_one, batch, cancel, register, add_pipe, flush, arm, misuse };

pub fn act(run: *Run) Error!void {
    if (run.ending or !run.steps.begin()) return;
    defer run.steps.end();
    const action: Action = switch (run.below(100)) {
        0...41 => .start_one,
        42...82 => .batch,
        83...88 => .cancel,
        89...92 => .register,
        93 => .add_pipe,
        94...95 => .flush,
        96 => .arm,
        else => .misuse,
    };
    run.steps.tell("  {t}", .{action});
    switch (action) {
        .start_one => try start_one(run),
        .batch => try batch(run),
        .cancel => try cancel(run),
        .register => try registrations.act(run),
        .add_pipe => if (run.descriptors.items.len < run.descriptors_max) {
            try descriptors.add_pipe(run);
        },
        .flush => _ = run.engine.flush_only(),
        .arm => {
            _ = run.engine.arm();
            _ = run.engine.disarm();
        },
        .misuse => try misuse(run),
    }
}

/// What can seldom be done is asked for more often.
const rare = [_]model.Kind{
    .bind,       .listen,      .listen,      .connect,     .connect, .socket,
    .send,       .send,        .sendmsg,     .sendmsg,     .recv,    .recvmsg,
    .shutdown,   .shutdown,    .shutdown,    .splice,      .splice,  .splice,
    .splice,     .openat,      .openat,      .openat,      .close,   .read_fixed,
    .read_fixed, .write_fixed, .write_fixed, .write_fixed, .write,   .writev,
    .rename,     .fallocate,   .fallocate,   .fallocate,   .link,    .ftruncate,
    .ftruncate,  .ftruncate,   .symlink,     .statx,       .mkdir,   .unlink,
    .rename,     .link,        .connect,
};

/// So seldom possible that their places in chains are kept for them.
const rarest = [_]model.Kind{ .listen, .bind, .splice, .splice, .write_fixed };

fn random_kind(run: *Run) model.Kind {
    const kind: model.Kind = @enumFromInt(run.below(std.enums.values(model.Kind).len));
    // These can always be started, and would be half of all.
    switch (kind) {
        .nop, .fsync, .datasync, .sync_file_range, .timeout, .poll => {
            if (run.chance(50)) return random_kind(run);
        },
        else => {},
    }
    return if (run.chance(55)) rare[run.below(rare.len)] else kind;
}

/// Most of what is asked for would be refused.
fn is_full(run: *Run) bool {
    return taken(run) >= run.engine.config.operations and !run.chance(3);
}

/// Slots that cannot be had in this turn.
fn taken(run: *const Run) u32 {
    const table = &run.engine.operations;
    return table.claimed_count + table.retired_count + run.spoilt;
}

fn start_one(run: *Run) Error!void {
    if (is_full(run)) return;
    const operation = try building.build(run, random_kind(run), null) orelse return;
    // A link outside a batch means nothing.
    if (run.chance(5)) operation.set_option(.link);
    _ = try start(run, operation);
}

/// True if it is on its way.
fn start(run: *Run, operation: *Operation) Error!bool {
    const outcome = ask(run, operation);
    if (outcome < 0) {
        run.spoilt += 1;
        try expect_refusal(run, operation, outcome);
        return false;
    }
    if (operation.refusal < 0) {
        return run.verdict.violation("{t} was taken instead of {d}", .{
            operation.kind, operation.refusal,
        });
    }
    operation.index = @intCast(outcome);
    operation.generation = run.engine.control.generation;
    operation.started_ns = run.kernel.clock.now;
    if (run.by_slot[operation.index] != null) {
        return run.verdict.violation("a slot in use was given out", .{});
    }
    run.by_slot[operation.index] = operation;
    run.pending += 1;
    try hold(run, operation);
    return true;
}

fn ask(run: *Run, operation: *const Operation) i32 {
    const engine = run.engine;
    const simple = operation.arguments.timeout_ms < 0 and operation.arguments.options == 0;
    if (simple and operation.kind == .nop and run.chance(50)) return calls.nop(engine);
    const may_be_timer = operation.kind == .timeout and operation.arguments.options == 0;
    if (may_be_timer and engine.batch == null and !operation.masked and run.chance(50)) {
        return timers.start(engine, operation.arguments.offset, operation.arguments.timeout_ms, 0);
    }
    engine.arguments.* = operation.arguments;
    const bytes: ?[*]const u8 = if (input.len > 0) &input.bytes else null;
    const kind = @intFromEnum(operation.kind);
    const outcome = calls.start(engine, kind, bytes, @intCast(input.len));
    // From here on they are the library's: JavaScript may write anything over its own.
    engine.arguments.* = std.mem.bytesToValue(abi.Arguments, &garbage);
    @memset(input.bytes[0..input.len], 0xdd);
    return outcome;
}

const garbage: [@sizeOf(abi.Arguments)]u8 = @splat(0xdd);

fn expect_refusal(run: *Run, operation: *const Operation, outcome: i32) Error!void {
    if (outcome == operation.refusal) return;
    const engine = run.engine;
    if (outcome == errno.nomem and taken(run) >= engine.config.operations) return;
    if (outcome == errno.again and is_backed_up(run)) return;
    return run.verdict.violation("{t} was refused with {d} instead of {d}", .{
        operation.kind, outcome, operation.refusal,
    });
}

/// The queue in front of the kernel's is at its bound.
fn is_backed_up(run: *Run) bool {
    return run.engine.dirty_operations.count >= run.engine.config.entries * 4;
}

fn hold(run: *Run, operation: *Operation) Error!void {
    if (operation.descriptor) |descriptor| {
        descriptor.uses += 1;
        if (operation.alone) descriptor.closing = true;
    }
    if (operation.second) |descriptor| descriptor.uses += 1;
    if (settle.stream_of(operation)) |stream| {
        if (operation.takes_in) stream.in_use = true;
        if (operation.takes_out) {
            stream.out_use = true;
            stream.out_ahead = operation.data;
        }
    }
    if (operation.node) |node| try node.users.append(run.arena, operation);
    run.names.hold(operation);
    registrations.operation_started(run, operation);
}

/// Operations that reach the kernel together, in chains.
fn batch(run: *Run) Error!void {
    if (is_full(run)) return;
    const begun = calls.batch_begin(run.engine);
    if (begun == errno.again and is_backed_up(run)) return;
    try run.expect_outcome("batch_begin", 0, begun);
    var members: [8]*Operation = undefined;
    var count: usize = 0;
    var failed = false;
    // A plain call cannot wait for a member before it.
    var refused = false;
    var sqes: u32 = 0;
    for (0..1 + run.below(members.len)) |_| {
        if (sqes + 2 > run.engine.config.entries and !run.chance(3)) break;
        if (is_full(run)) break;
        const before = if (count > 0) members[count - 1] else null;
        const link: model.Link = switch (run.below(10)) {
            0...6 => .soft,
            7...8 => .hard,
            else => .none,
        };
        const previous = if (before) |member| if (member.link != .none) member else null else null;
        const late = previous != null and run.chance(14);
        const kind = if (late) rarest[run.below(rarest.len)] else random_kind(run);
        const operation = try building.build(run, kind, previous) orelse continue;
        operation.link = link;
        switch (link) {
            .none => {},
            .soft => operation.set_option(.link),
            .hard => operation.set_option(.hard_link),
        }
        if (!try start(run, operation)) {
            failed = true;
            break;
        }
        refused = refused or (operation.masked and previous != null);
        sqes += if (operation.has_timeout()) 2 else 1;
        members[count] = operation;
        count += 1;
        if (run.chance(5)) try cancel(run);
    }
    if (run.chance(5)) try run.expect_outcome("flush", errno.busy, run.engine.flush_only());
    if (failed and run.chance(50)) {
        // Those that were taken are not wanted without the others.
        for (members[0..count]) |member| if (!member.cancelled) try cancel_one(run, member);
    }
    const outcome = calls.batch_end(run.engine);
    const expected: i32 = if (sqes > run.engine.config.entries)
        errno.inval
    else if (refused)
        errno.notsup
    else
        0;
    try run.expect_outcome("batch_end", expected, outcome);
    // Nothing follows the last one.
    if (count > 0) members[count - 1].link = .none;
    if (outcome < 0) for (members[0..count]) |member| forget(run, member);
}

/// It never was.
fn forget(run: *Run, operation: *Operation) void {
    run.by_slot[operation.index] = null;
    run.pending -= 1;
    run.spoilt += 1;
    operation.settled = true;
    registrations.operation_done(run, operation);
    settle.release(run, operation);
    if (operation.takes_out) if (settle.stream_of(operation)) |stream| {
        stream.out_ahead = &.{};
    };
}

fn cancel(run: *Run) Error!void {
    if (run.pending == 0) return;
    const first = run.below(@intCast(run.by_slot.len));
    for (0..run.by_slot.len) |i| {
        const operation = run.by_slot[(first + i) % run.by_slot.len] orelse continue;
        return cancel_one(run, operation);
    }
}

pub fn cancel_one(run: *Run, operation: *Operation) Error!void {
    const engine = run.engine;
    // A record that is still to be read may have ended it already.
    const found = engine.operations.find(operation.index, operation.generation);
    const present = if (found) |slot| if (slot.stage == .over) null else slot else null;
    const queued = if (present) |slot| slot.stage == .queued else false;
    const outcome = calls.cancel(engine, operation.index, operation.generation);
    const expected: i32 = if (present == null)
        errno.noent
    else if (operation.cancelled)
        errno.already
    else
        0;
    try run.expect_outcome("cancel", expected, outcome);
    if (outcome < 0) return;
    operation.cancelled = true;
    operation.withdrawn = queued;
}

/// Calls that must be refused and change nothing.
fn misuse(run: *Run) Error!void {
    const engine = run.engine;
    switch (run.below(4)) {
        0 => try run.expect_outcome("batch_end", errno.inval, calls.batch_end(engine)),
        1 => try run.expect_outcome("start", errno.inval, calls.start(engine, 77, null, 0)),
        2 => {
            const index = run.below(engine.config.operations);
            if (run.by_slot[index] != null) return;
            const outcome = calls.cancel(engine, index, 0);
            try run.expect_outcome("cancel", errno.noent, outcome);
        },
        else => {
            const index = run.below(engine.config.operations);
            if (engine.settled.contains(index)) return;
            const outcome = calls.operation_read(engine, index, &input.bytes, 1);
            try run.expect_outcome("operation_read", errno.noent, outcome);
        },
    }
}
