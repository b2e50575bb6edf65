//! Operations of users on their way into the kernel and out: submit, settle, count.
//!
//! A started operation waits in the engine's queue until the flush gives it an SQE: a NOP in its
//! place if it was cancelled before or is done by a plain call, a linked time-out behind it if it
//! has one. The outcome comes from its own CQE alone (I2). Called by `engine.zig` and `calls.zig`.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const slots = @import("slots.zig");
const operation = @import("operation.zig");
const control = @import("operation/control.zig");
const timer = @import("operation/timer.zig");
const registration = @import("registration.zig");
const mutation = @import("testing/mutation.zig");
const Engine = @import("engine.zig").Engine;
const Operation = operation.Operation;
const errno = seam.errno;

/// Counters and histograms, by kind.
pub const Counts = struct {
    ring: [operation.kinds]u64 = @splat(0),
    plain: [operation.kinds]u64 = @splat(0),
    /// Bucket n: from 2^n to 2^(n+1) nanoseconds from submission to completion.
    latency: [operation.kinds][abi.histogram_buckets]u64 = @splat(@splat(0)),
};

/// The flush's look at one operation. False: no SQE was to be had, come again next turn.
pub fn advance(self: *Operation, engine: *Engine, index: u32) bool {
    if (self.stage != .queued) return advance_submitted(self, engine, index);
    // All members of a batch, and each time-out with its operation, or none.
    const needed = @max(self.followers, sqes_of(self));
    if (!engine.make_room(needed)) return false;
    const entry = engine.sqe() orelse return false;
    const user_data: slots.UserData = .{
        .slot = @intCast(index),
        .kind = .of(self.kind),
        .generation = engine.operations.generation(index),
    };
    if (self.cancelled) {
        // It keeps the place in a chain; -ECANCELED comes with its CQE (I2).
        self.stage = .withdrawn;
        prepare_failure(entry);
    } else {
        self.stage = .submitted;
        self.started_ns = engine.flush_clock();
        submit(self, engine, entry);
    }
    entry.user_data = @bitCast(user_data);
    // Link flags are set when the SQE is made, never afterwards.
    const linked = self.option(.link) and !mutation.is(.lose_link);
    if (linked) entry.flags |= seam.sqe_flag.io_link;
    if (self.option(.hard_link)) entry.flags |= seam.sqe_flag.io_hardlink;
    if (self.timed and self.stage == .submitted) {
        if (!timer.TimeLimit.is_for(self.kind)) {
            submit_timeout(self, engine, entry, user_data);
        } else if (!self.plain) {
            // Behind all that waits: in front it could come between the members of a chain.
            self.limit = .wanted;
            engine.dirty_operations.push(&engine.operations, index);
        }
    }
    return true;
}

pub fn sqes_of(self: *const Operation) u32 {
    return if (self.timed) 2 else 1;
}

fn submit(self: *Operation, engine: *Engine, entry: *seam.Sqe) void {
    const number = @intFromEnum(self.kind);
    operation.prepare(entry, self);
    if (!engine.plain_kinds.isSet(number) and engine.kernel.supports(entry.opcode)) {
        engine.counts.ring[number] += 1;
        if (self.option(.registered_file)) registration.name_file(engine, entry);
        return;
    }
    engine.counts.plain[number] += 1;
    var request = entry.*;
    entry.* = std.mem.zeroes(seam.Sqe);
    entry.opcode = .NOP;
    if (self.option(.registered_file)) registration.plain_file(engine, &request);
    self.plain = true;
    self.plain_result = engine.kernel.plain(&request);
    if (self.plain_result < 0) prepare_failure(entry);
}

/// Stands for an operation that has failed already: a cancel that finds nothing breaks a chain as
/// the operation would have, and a hard link goes on.
fn prepare_failure(entry: *seam.Sqe) void {
    entry.opcode = .ASYNC_CANCEL;
    entry.fd = -1;
    entry.addr = std.math.maxInt(u64); // no operation has this `user_data`
}

/// Whether the kind is done by a plain call on this ring.
pub fn is_plain(engine: *Engine, self: *Operation) bool {
    if (engine.plain_kinds.isSet(@intFromEnum(self.kind))) return true;
    var probe = std.mem.zeroes(seam.Sqe);
    operation.prepare(&probe, self);
    return !engine.kernel.supports(probe.opcode);
}

/// The time-out's SQE takes over the operation's link to the next member of a chain.
fn submit_timeout(
    self: *Operation,
    engine: *Engine,
    entry: *seam.Sqe,
    target: slots.UserData,
) void {
    const timeout = engine.sqe().?; // `make_room` has counted it
    var user_data = target;
    user_data.kind = .link_timeout;
    timer.LinkTimeout.prepare(timeout, self, user_data);
    timeout.flags = entry.flags & (seam.sqe_flag.io_link | seam.sqe_flag.io_hardlink);
    // A hard link holds the time-out just as well, and must not turn into a soft one.
    if (mutation.is(.soften_link)) entry.flags &= ~seam.sqe_flag.io_hardlink;
    if (entry.flags & seam.sqe_flag.io_hardlink == 0) entry.flags |= seam.sqe_flag.io_link;
    engine.pending_cancels += 1;
}

/// Its time limit is to begin or to end, or it is to be cancelled.
fn advance_submitted(self: *Operation, engine: *Engine, index: u32) bool {
    if (self.waits or self.stage == .withdrawn) return true;
    var user_data: slots.UserData = .{
        .slot = @intCast(index),
        .kind = .time_limit,
        .generation = engine.operations.generation(index),
    };
    var target = user_data;
    if (self.stage == .submitted) {
        if (self.limit == .wanted and !self.cancelled) {
            const entry = engine.sqe() orelse return false;
            timer.TimeLimit.prepare(entry, self, user_data);
            self.limit = .running;
            engine.pending_cancels += 1;
        }
        if (!self.cancelled and !self.timed_out) return true;
        target.kind = .of(self.kind);
    }
    const entry = engine.sqe() orelse return false;
    user_data.kind = .cancel;
    control.Cancel.prepare(entry, target, user_data);
    engine.pending_cancels += 1;
    return true;
}

/// The kernel did not find the target: it may be between two places. A few more tries.
pub fn cancel_missed(engine: *Engine, user_data: slots.UserData) void {
    const target = engine.operations.find(user_data.slot, user_data.generation) orelse return;
    if (target.waits or target.cancel_tries == cancel_tries_max) return;
    target.cancel_tries += 1;
    engine.dirty_operations.push_front(&engine.operations, user_data.slot);
}

const cancel_tries_max = 16;

/// The next member of the chain has started: what waited for this can be sent.
fn release_successor(self: *const Operation, engine: *Engine) void {
    if (self.next.generation == 0) return;
    const next = engine.operations.find(self.next.index, self.next.generation) orelse return;
    next.waits = false;
    if (mutation.is(.forget_cancel)) return;
    if (next.stage != .submitted) return;
    if (!next.cancelled and next.limit != .wanted) return;
    engine.dirty_operations.push_front(&engine.operations, self.next.index);
}

/// A CQE of a user's operation: one record; with the last CQE the slot is retired.
pub fn settle(engine: *Engine, user_data: slots.UserData, cqe: *const seam.Cqe) void {
    const self = engine.operations.find(user_data.slot, user_data.generation) orelse
        return engine.stale(cqe);
    const more = cqe.flags & seam.cqe_flag.more != 0;
    if (may_follow_eventfd(self, cqe.res)) engine.wake_stale = true;
    engine.record(.completion, user_data.slot, result_of(self, cqe.res), 0, @intFromBool(more));
    if (more) return;
    if (self.stage == .submitted) count_latency(self, engine);
    if (cqe.res > 0) count_bytes(self, engine, cqe.res);
    if (cqe.res < 0) self.forget_descriptors();
    release_successor(self, engine);
    registration.operation_done(engine, self);
    retire(engine, self, user_data.slot);
}

/// A poll may have waited for an eventfd, alone or within an epoll; a read of one gives 8 bytes.
fn may_follow_eventfd(self: *const Operation, result: i32) bool {
    return switch (self.kind) {
        .poll => true,
        .read, .readv => result == @sizeOf(u64),
        else => false,
    };
}

/// Descriptors that came with a message and that JavaScript did not take.
pub fn drop_descriptors(engine: *Engine, self: *Operation) void {
    var descriptors = self.received_descriptors();
    while (descriptors.next()) |fd| {
        if (!mutation.is(.keep_descriptor)) engine.kernel.close_fd(fd);
        engine.counters.descriptors_dropped += 1;
    }
    self.forget_descriptors();
}

fn retire(engine: *Engine, self: *Operation, slot: u32) void {
    engine.dirty_operations.remove(&engine.operations, slot);
    if (self.limit == .running) {
        self.stage = .over;
        engine.dirty_operations.push_front(&engine.operations, slot);
    } else {
        engine.operations.retire(slot);
    }
    if (!self.block.is_none()) engine.settled.append(slot);
    if (mutation.is(.release_block_early)) engine.transfers.release(&self.block);
}

/// The end of a send in a connection's queue; `bu_operation_sent` tells how many bytes until the
/// next turn.
pub fn settle_send(engine: *Engine, slot: u32, result: i32, bytes_sent: u64) void {
    const self = engine.operations.at(slot);
    assert(self.stage == .in_stream);
    self.end_send(bytes_sent);
    engine.record(.completion, slot, result, 0, 0);
    count_latency(self, engine);
    retire(engine, self, slot);
}

/// The end of a user's timer.
pub fn settle_timer(engine: *Engine, slot: u32, result: i32) void {
    const self = engine.operations.at(slot);
    assert(self.stage == .timed);
    engine.record(.completion, slot, result, 0, 0);
    count_latency(self, engine);
    retire(engine, self, slot);
}

/// The end of an operation that somebody else performs.
pub fn settle_offloaded(engine: *Engine, slot: u32, result: i32) void {
    const self = engine.operations.at(slot);
    assert(self.stage == .offloaded);
    engine.record(.completion, slot, result, 0, 0);
    retire(engine, self, slot);
}

fn result_of(self: *const Operation, result: i32) i32 {
    if (self.stage == .withdrawn) return errno.canceled;
    if (self.plain) return self.plain_result;
    // A worker of the kernel that a cancel interrupts says -EINTR, or the kernel's own -ERESTART*.
    const restarts = result <= -512 and result >= -516;
    const ended = result == errno.canceled or result == errno.intr or restarts;
    // Success wins over both (I4).
    if (self.cancelled and mutation.is(.hide_success)) return errno.canceled;
    if (ended and self.timed_out and !mutation.is(.hide_timeout)) return errno.timedout;
    if (ended and self.cancelled) return errno.canceled;
    if (result == errno.canceled and is_cancelled_by_time(self)) return errno.timedout;
    return if (restarts) errno.intr else result;
}

/// Nobody else has cancelled it: its LINK_TIMEOUT did, whose own CQE comes after that of what a
/// worker waited in (seen on 6.1, where reads of pipes do). In a chain it may have been the break.
fn is_cancelled_by_time(self: *const Operation) bool {
    return self.timed and !self.cancelled and !self.follows and !mutation.is(.hide_timeout);
}

fn count_bytes(self: *const Operation, engine: *Engine, bytes: i32) void {
    switch (self.kind) {
        .read, .readv, .read_fixed, .recv, .recvmsg => engine.counters.bytes_received += bytes,
        .write, .writev, .write_fixed, .send, .sendmsg => engine.counters.bytes_sent += bytes,
        else => {},
    }
}

fn count_latency(self: *const Operation, engine: *Engine) void {
    const elapsed = engine.reap_clock() -| self.started_ns;
    const bucket = std.math.log2_int(u64, @max(elapsed, 1));
    const last = abi.histogram_buckets - 1;
    engine.counts.latency[@intFromEnum(self.kind)][@min(bucket, last)] += 1;
}

/// Slots whose memory JavaScript may still read until the next turn begins.
pub const Settled = struct {
    slots: []u32,
    count: u32 = 0,

    pub fn append(settled: *Settled, slot: u32) void {
        settled.slots[settled.count] = slot;
        settled.count += 1;
    }

    pub fn contains(settled: *const Settled, slot: u32) bool {
        return std.mem.indexOfScalar(u32, settled.slots[0..settled.count], slot) != null;
    }

    /// At the start of a turn, before the slots can be claimed again.
    pub fn release(settled: *Settled, engine: *Engine) void {
        for (settled.slots[0..settled.count]) |slot| {
            const self = &engine.operations.entries[slot].value;
            drop_descriptors(engine, self);
            // Its time limit's entry names the block until that CQE (I1).
            if (self.limit == .running and !mutation.is(.release_limit_early)) continue;
            if (!mutation.is(.keep_block)) engine.transfers.release(&self.block);
        }
        settled.count = 0;
    }
};
