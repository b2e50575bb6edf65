//! Receive buffers that the user keeps beyond the turn, as borrowed chunks are.
//!
//! The kernel must not write into them until they are given back, in any order and at any time; a
//! published buffer is overwritten at once by the simulated kernel, so a loan that went back early
//! shows other bytes.

const std = @import("std");
const abi = @import("../abi.zig");
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
};

/// Keeps the buffer of a `data` record, sometimes; it was checked already.
pub fn lend(schedule: *Schedule, record: *const abi.Record, key: u64, end: u64) Error!void {
    if (schedule.resting or !schedule.chance(20)) return;
    const buffers = &schedule.engine.buffers;
    if (!buffers.lend(record.extra)) {
        return schedule.verdict.violation("a delivered buffer cannot be lent", .{});
    }
    if (buffers.lend(record.extra)) return schedule.verdict.violation("a buffer lent twice", .{});
    const len: u32 = @intCast(record.result);
    try schedule.loans.append(schedule.arena, .{
        .buffer = record.extra,
        .offset = record.offset,
        .len = len,
        .key = key,
        .position = end - len,
    });
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
    const id = schedule.engine.buffers.id_of(@intFromPtr(seen.ptr));
    if (id != loan.buffer) return schedule.verdict.violation("a loan has another buffer", .{});
    schedule.engine.buffers.release(id);
}

pub fn give_back_all(schedule: *Schedule) Error!void {
    while (schedule.loans.items.len > 0) try give_back_one(schedule);
}
