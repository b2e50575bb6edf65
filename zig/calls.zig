//! What JavaScript asks of a ring: arguments are checked, handles are resolved, state is changed.
//!
//! Nothing here trusts its caller: a wrong index, enum, length or number is a negative errno and
//! changes nothing. A stale handle is ENOENT. Submission itself happens at the next flush, in
//! `Connection.advance` and its like. Called by `exports.zig` and by the schedules of the tests.

const std = @import("std");
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const preparation = @import("preparation.zig");
const proxied = @import("proxied.zig");
const forwarding = @import("forwarding.zig");
const passing = @import("passing.zig");
const registration = @import("registration.zig");
const send_settling = @import("send_settling.zig");
const send_start = @import("send_start.zig");
const submission = @import("submission.zig");
const timers = @import("timers.zig");
const Connection = @import("connection.zig").Connection;
const mutation = @import("testing/mutation.zig");
const errno = seam.errno;

/// An enum value from outside, or null if the number is none of its own.
fn known(comptime Enum: type, value: u32) ?Enum {
    return std.enums.fromInt(Enum, value);
}

// Listeners ------------------------------------------------------------------------------------

pub fn listener_address(engine: *Engine, index: u32, generation: u32, out: *abi.Address) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    return address_of(engine, listener.fd, .local, out);
}

pub fn listener_fd(engine: *Engine, index: u32, generation: u32) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    return if (listener.stopped) errno.noent else listener.fd;
}

/// Connections are told once their PROXY header has come, within so many milliseconds.
pub fn listener_proxy(engine: *Engine, index: u32, generation: u32, timeout_ms: u32) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    if (timeout_ms == 0) return errno.inval;
    engine.proxied.prepare(engine) catch return errno.nomem;
    listener.proxy_timeout_ms = timeout_ms;
    return 0;
}

pub fn listener_stop(engine: *Engine, index: u32, generation: u32) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    listener.stop(engine, index);
    return 0;
}

// Connections ----------------------------------------------------------------------------------

pub fn connection_fd(engine: *Engine, index: u32, generation: u32) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    return connection.fd;
}

/// From now on, in milliseconds; 0 lifts it.
pub fn connection_timeout(
    engine: *Engine,
    index: u32,
    generation: u32,
    timeout_ms: u32,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    return connection.set_timeout(engine, index, timeout_ms);
}

pub fn connection_write(
    engine: *Engine,
    index: u32,
    generation: u32,
    bytes: ?[*]const u8,
    len: u32,
) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    if (len == 0) return 0;
    const source = bytes orelse return errno.inval;
    // The answer is an i32; what does not fit in it is taken by a later call.
    const offered = @min(len, std.math.maxInt(i32));
    return connection.write(engine, index, source[0..offered]);
}

pub fn connection_send(
    engine: *Engine,
    index: u32,
    generation: u32,
    input: ?[*]const u8,
    input_len: u32,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    if (input_len > 0 and input == null) return errno.inval;
    const arguments = engine.arguments.*; // JavaScript may write to the original at any time
    const bytes = if (input) |pointer| pointer[0..input_len] else &[_]u8{};
    return send_start.start(connection, engine, index, &arguments, bytes);
}

/// Bytes that a send has sent, from its completion to the next turn.
pub fn operation_sent(engine: *Engine, index: u32) f64 {
    if (index >= engine.operations.fresh) return -1;
    return engine.operations.entries[index].value.arguments.offset;
}

pub fn connection_shut(
    engine: *Engine,
    index: u32,
    generation: u32,
    how: u32,
    linger_ms: u32,
) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    const asked = known(abi.Shut, how) orelse return errno.inval;
    connection.shut_down(engine, index, asked, linger_ms);
    return 0;
}

pub fn connection_pause(engine: *Engine, index: u32, generation: u32, paused: u32) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    connection.pause(engine, index, paused != 0);
    return 0;
}

/// Generation 0, which no connection has, ends the forwarding.
pub fn connection_forward(
    engine: *Engine,
    index: u32,
    generation: u32,
    target: u32,
    target_generation: u32,
) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    if (target_generation > 0) {
        return forwarding.start(connection, engine, target, target_generation);
    }
    forwarding.stop(connection);
    return 0;
}

pub fn connection_forwarded(engine: *Engine, index: u32, generation: u32) f64 {
    const connection = engine.connections.find(index, generation) orelse return -1;
    return @floatFromInt(connection.forwarding.bytes);
}

pub fn connection_descriptors(
    engine: *Engine,
    index: u32,
    generation: u32,
    out: ?[*]i32,
    room: u32,
) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    const places = out orelse return errno.inval;
    return passing.take(connection, engine, index, places[0..room]);
}

pub fn connection_option(
    engine: *Engine,
    index: u32,
    generation: u32,
    option: u32,
    value: u32,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    const asked = known(abi.SocketOption, option) orelse return errno.inval;
    const sending = &connection.sending;
    switch (asked) {
        .high_water_mark => sending.high_water_mark = value,
        .zero_copy_min => sending.zero_copy_min = value,
        .corked => {
            sending.corked = value != 0;
            if (!sending.corked) engine.mark(index);
        },
        .descriptors => return if (value == 1) passing.enable(connection, engine) else errno.inval,
        else => return engine.kernel.set_option(connection.fd, seam_option(asked).?, value),
    }
    return 0;
}

pub fn connection_option_read(
    engine: *Engine,
    index: u32,
    generation: u32,
    option: u32,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    const asked = known(abi.SocketOption, option) orelse return errno.inval;
    const found = seam_option(asked) orelse return errno.inval;
    return engine.kernel.get_option(connection.fd, found);
}

/// Null for the library's own.
fn seam_option(option: abi.SocketOption) ?seam.Option {
    return switch (option) {
        .no_delay => .no_delay,
        .keep_alive => .keep_alive,
        .type_of_service => .type_of_service,
        .high_water_mark, .zero_copy_min, .corked, .descriptors => null,
    };
}

pub fn connection_address(
    engine: *Engine,
    index: u32,
    generation: u32,
    end: u32,
    out: *abi.Address,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    const asked = known(abi.End, end) orelse return errno.inval;
    const side: seam.End = switch (asked) {
        .local => .local,
        .remote => .remote,
    };
    if (proxied.address_of(connection, engine, index, side)) |*address| {
        address.print(out);
        return 0;
    }
    return address_of(engine, connection.fd, side, out);
}

/// A connection whose descriptor is still its own: after CLOSE the number may be another's.
fn find_open(engine: *Engine, index: u32, generation: u32) ?*Connection {
    const connection = engine.connections.find(index, generation) orelse return null;
    return if (connection.stage == .closing) null else connection;
}

fn address_of(engine: *Engine, fd: i32, end: seam.End, out: *abi.Address) i32 {
    var address: seam.SocketAddress = undefined;
    const outcome = engine.kernel.address(fd, end, &address);
    if (outcome < 0) return outcome;
    address.print(out);
    return 0;
}

// Operations on the ring -----------------------------------------------------------------------

/// The fast way to an operation without arguments: there is nothing to check or to copy.
pub fn nop(engine: *Engine) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (!engine.flush_early()) return errno.again;
    const index = engine.operations.claim() orelse return errno.nomem;
    const self = engine.operations.at(index);
    self.reset(.nop);
    return enqueue(engine, index, self);
}

/// An operation that somebody else performs: its end is posted (`mailbox.post_outcome`).
pub fn offload(engine: *Engine) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (engine.batch != null) return errno.busy;
    const index = engine.operations.claim() orelse return errno.nomem;
    const self = engine.operations.at(index);
    self.reset(.nop);
    self.stage = .offloaded;
    engine.control.generation = engine.operations.generation(index);
    return @intCast(index);
}

pub const timer_start = timers.start;
pub const quiet_ms = timers.quiet_ms;

pub fn start(engine: *Engine, kind: u32, input: ?[*]const u8, input_len: u32) i32 {
    const asked = known(abi.OperationKind, kind) orelse return errno.inval;
    if (input_len > 0 and input == null) return errno.inval;
    const arguments = engine.arguments.*; // JavaScript may write to the original at any time
    const bytes = if (input) |pointer| pointer[0..input_len] else &[_]u8{};
    return begin(engine, asked, &arguments, bytes);
}

fn begin(
    engine: *Engine,
    kind: abi.OperationKind,
    arguments: *const abi.Arguments,
    input: []const u8,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const checked = preparation.check_arguments(kind, arguments, input);
    if (checked < 0) return checked;
    if (!engine.flush_early()) return errno.again;
    const index = engine.operations.claim() orelse return errno.nomem;
    const self = engine.operations.at(index);
    self.reset(kind);
    self.arguments = arguments.*;
    self.options = arguments.options;
    self.timed = arguments.timeout_ms >= 0;
    if (engine.batch == null) self.options &= ~(link_bits); // nothing could follow
    const outcome = preparation.set_up(engine, self, input);
    if (outcome < 0) {
        engine.transfers.release(&self.block);
        engine.operations.retire(index);
        return outcome;
    }
    return enqueue(engine, index, self);
}

fn enqueue(engine: *Engine, index: u32, self: *Operation) i32 {
    engine.control.generation = engine.operations.generation(index);
    engine.dirty_operations.push(&engine.operations, index);
    if (engine.batch) |*batch| {
        if (batch.count == 0) {
            batch.first = index;
        } else {
            follow(engine, batch.last, index);
        }
        batch.last = index;
        batch.count += 1;
        batch.sqes += submission.sqes_of(self);
    }
    return @intCast(index);
}

/// A member behind a linked one cannot be cancelled before that one has settled (K4).
fn follow(engine: *Engine, before: u32, index: u32) void {
    const previous = engine.operations.at(before);
    if (!previous.option(.link) and !previous.option(.hard_link)) return;
    previous.next = .{ .index = index, .generation = engine.operations.generation(index) };
    engine.operations.at(index).follows = true;
    engine.operations.at(index).waits = true;
}

pub fn batch_begin(engine: *Engine) i32 {
    if (engine.batch != null) return errno.busy;
    if (engine.fatal != 0) return engine.fatal;
    if (!engine.flush_early()) return errno.again; // its members are not refused one by one
    engine.batch = .{};
    return 0;
}

/// Its members lie together at the end of the queue: marked as one group, or taken back.
pub fn batch_end(engine: *Engine) i32 {
    const batch = engine.batch orelse return errno.inval;
    engine.batch = null;
    if (batch.count == 0) return 0;
    // The last member's link would catch a stranger.
    const last = engine.operations.at(batch.last);
    last.options &= ~(link_bits);
    const fits = batch.sqes <= engine.kernel.room() + engine.kernel.queued();
    const code: i32 = if (!fits) errno.inval else chains_possible(engine, &batch);
    if (code == 0) {
        const whole = if (mutation.is(.split_batch)) 0 else batch.sqes;
        engine.operations.at(batch.first).followers = whole;
        return 0;
    }
    for (0..batch.count) |_| {
        const index = engine.dirty_operations.tail;
        engine.dirty_operations.remove(&engine.operations, index);
        const self = engine.operations.at(index);
        registration.operation_done(engine, self);
        engine.transfers.release(&self.block);
        engine.operations.retire(index);
    }
    return code;
}

const link_bits: u32 = 1 << @intFromEnum(abi.OperationOption.link) |
    1 << @intFromEnum(abi.OperationOption.hard_link);

/// A plain call is made when its turn to be submitted comes, which inside of a chain would be
/// before its predecessor has run.
fn chains_possible(engine: *Engine, batch: *const Engine.Batch) i32 {
    var index = batch.last;
    for (0..batch.count) |_| {
        const self = engine.operations.at(index);
        if (self.waits and submission.is_plain(engine, self)) return errno.notsup;
        index = self.dirty.previous;
    }
    return 0;
}

pub fn cancel(engine: *Engine, index: u32, generation: u32) i32 {
    const operation = engine.operations.find(index, generation) orelse return errno.noent;
    if (operation.stage == .over) return errno.noent;
    if (operation.cancelled) return errno.already;
    operation.cancelled = true;
    if (operation.stage == .in_stream) {
        send_settling.cancel(engine, operation.arguments.extra);
        return 0;
    }
    if (operation.stage == .offloaded) {
        engine.posts.cancelled.push(&engine.operations, index);
        return 0;
    }
    if (operation.stage == .timed) {
        timers.cancel(engine, index);
        return 0;
    }
    // Queued, it becomes a failure in its place; under way, the request goes before what waits,
    // never between the members of a batch.
    if (operation.stage == .submitted) {
        engine.dirty_operations.push_front(&engine.operations, index);
    }
    return 0;
}

/// The slot's operation if it settled in this turn: its memory stands until the next.
fn settled(engine: *Engine, index: u32) ?*Operation {
    if (!engine.settled.contains(index)) return null;
    return &engine.operations.entries[index].value;
}

pub fn operation_read(engine: *Engine, index: u32, target: ?[*]u8, len: u32) i32 {
    const self = settled(engine, index) orelse return errno.noent;
    if (self.block.is_none()) return errno.inval;
    const output = self.output();
    const bytes = target orelse return errno.inval;
    if (len > output.len) return errno.inval;
    @memcpy(bytes[0..len], output[0..len]);
    return 0;
}

pub fn operation_address(engine: *Engine, index: u32, out: *abi.Address) i32 {
    const self = settled(engine, index) orelse return errno.noent;
    if (self.kind != .accept and self.kind != .recvmsg) return errno.inval;
    self.received_address().print(out);
    return 0;
}

/// The descriptors that came with a message are the caller's from here on: their number.
pub fn operation_descriptors(engine: *Engine, index: u32, out: ?[*]i32, room: u32) i32 {
    const self = settled(engine, index) orelse return errno.noent;
    if (self.kind != .recvmsg) return errno.inval;
    const target = out orelse return errno.inval;
    var count: u32 = 0;
    var descriptors = self.received_descriptors();
    while (descriptors.next()) |_| count += 1;
    if (count > room) return errno.inval;
    descriptors = self.received_descriptors();
    for (target[0..count]) |*place| place.* = descriptors.next().?;
    self.forget_descriptors();
    return @intCast(count);
}

pub fn operation_count(engine: *Engine, kind: u32, plain: u32) f64 {
    if (kind >= engine.counts.ring.len) return -1;
    const counts = if (plain != 0) &engine.counts.plain else &engine.counts.ring;
    return @floatFromInt(counts[kind]);
}

pub fn histogram_read(engine: *Engine, kind: u32, out: ?[*]f64) i32 {
    const target = out orelse return errno.inval;
    if (kind >= engine.counts.latency.len) return errno.inval;
    for (engine.counts.latency[kind], 0..) |count, bucket| target[bucket] = @floatFromInt(count);
    return 0;
}

// The slab and counters -------------------------------------------------------------------------

/// `target` must have room for `len` bytes: the caller has just allocated it.
pub fn slab_read(engine: *Engine, offset: u32, target: ?[*]u8, len: u32) i32 {
    if (@as(u64, offset) + len > engine.slab.len) return errno.inval;
    const bytes = target orelse return errno.inval;
    @memcpy(bytes[0..len], engine.slab[offset..][0..len]);
    return 0;
}

pub fn read_stats(engine: *Engine, out: *abi.Stats) i32 {
    const counters = &engine.counters;
    inline for (@typeInfo(@TypeOf(counters.*)).@"struct".fields) |field| {
        @field(out, field.name) = @floatFromInt(@field(counters, field.name));
    }
    out.cqes_overflowed = @floatFromInt(engine.kernel.overflowed());
    out.staging_blocks_used = @floatFromInt(engine.staging_pool.used);
    out.receive_buffers_free = @floatFromInt(engine.buffers.available());
    out.receive_buffers_target = @floatFromInt(engine.buffers.target);
    out.receive_blocks_free = @floatFromInt(engine.blocks.available());
    out.receive_buffers_lent = @floatFromInt(engine.buffers.on_loan() + engine.blocks.on_loan());
    out.operations_waiting = @floatFromInt(engine.dirty_operations.count);
    out.sq_queued = @floatFromInt(engine.kernel.queued());
    out.cq_queued = @floatFromInt(engine.kernel.cq_queued());
    return 0;
}
