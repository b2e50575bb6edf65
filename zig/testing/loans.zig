//! Receive buffers that the user keeps beyond the turn, as borrowed chunks are.
//!
//! The kernel must not write into them until they are given back, in any order and at any time; a
//! published buffer is overwritten at once by the simulated kernel, so a loan that went back early
//! shows other bytes.

const std = @import("std");
const abi = @import("../abi.zig");
const receiving = @import("../receiving.zig");
const errno = @import("../kernel.zig").errno;
const model = @import("model.zig");
const pattern = @import("pattern.zig");
const Schedule = @import("schedule.zig").Schedule;

const Error = error{ Violation, OutOfMemory };

pub const Loan = struct {
    buffer: u32,
    offset: u32,
    len: u32,
    /// Which bytes it must hold.
    key: u64,
    position: u64,
    /// In whose share it counts.
    connection: *model.Connection,
};

/// Keeps the buffer of a `data` record, sometimes; it was checked already.
pub fn lend(
    schedule: *Schedule,
    record: *const abi.Record,
    connection: *model.Connection,
) Error!void {
    if (!is_block(schedule, record.extra)) schedule.serves = true;
    if (schedule.resting or !schedule.chance(20)) return;
    const outcome = receiving.lend(schedule.engine, record.extra);
    const all = if (is_block(schedule, record.extra))
        schedule.engine.blocks.count()
    else
        schedule.engine.buffers.count();
    // A quarter is never lent.
    const rest = all - count(schedule, is_block(schedule, record.extra));
    const enough = rest > @max(1, all / 4);
    if (outcome == errno.nobufs and !enough) return;
    if (outcome < 0) return schedule.verdict.violation("no loan: {d}", .{outcome});
    if (!enough) return schedule.verdict.violation("the last quarter was lent", .{});
    const again = receiving.lend(schedule.engine, record.extra);
    if (again != errno.inval and again != errno.nobufs) {
        return schedule.verdict.violation("a buffer lent twice", .{});
    }
    const len: u32 = @intCast(record.result);
    try schedule.loans.append(schedule.arena, .{
        .buffer = record.extra,
        .offset = record.offset,
        .len = len,
        .key = connection.peer.?.key,
        .position = connection.delivered - len,
        .connection = connection,
    });
    connection.lent_buffers += 1;
    connection.lent_bytes += len;
}

fn is_block(schedule: *const Schedule, buffer: u32) bool {
    return buffer >= schedule.engine.blocks.shape.first;
}

fn count(schedule: *const Schedule, blocks: bool) u32 {
    var found: u32 = 0;
    for (schedule.loans.items) |*loan| {
        found += @intFromBool(is_block(schedule, loan.buffer) == blocks);
    }
    return found;
}

/// Gives one loan back, whichever.
pub fn give_back_one(schedule: *Schedule) Error!void {
    if (schedule.loans.items.len == 0) return;
    const at = schedule.below(@intCast(schedule.loans.items.len));
    const loan = schedule.loans.swapRemove(at);
    const seen = schedule.engine.slab[loan.offset..][0..loan.len];
    if (!pattern.matches(loan.key, loan.position, seen)) {
        return schedule.verdict.violation("a lent buffer was written to", .{});
    }
    receiving.release(schedule.engine, @intFromPtr(seen.ptr));
    loan.connection.lent_buffers -= 1;
    loan.connection.lent_bytes -= loan.len;
}

pub fn give_back_all(schedule: *Schedule) Error!void {
    while (schedule.loans.items.len > 0) try give_back_one(schedule);
}
