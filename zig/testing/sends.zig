//! Sends of memory in place: loans, copies, lists of parts, chains, lent receive buffers, pipes.
//!
//! The user's memory comes from a set of buffers that hold the bytes of the stream. From the start
//! of a send to its end the library has them: the simulated kernel sees if they change. With the
//! end they are overwritten at once, so that whoever still needs them shows. Each send ends once.

const std = @import("std");
const abi = @import("../abi.zig");
const calls = @import("../calls.zig");
const seam = @import("../kernel.zig");
const pipes = @import("../kernel/simulated.zig").pipes;
const segments = @import("../segment.zig");
const send_start = @import("../send_start.zig");
const splicing = @import("../splicing.zig");
const model = @import("model.zig");
const pattern = @import("pattern.zig");
const Connection = @import("../connection.zig").Connection;
const Engine = @import("../engine.zig").Engine;
const Schedule = @import("schedule.zig").Schedule;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

const buffer_size = 24 * 1024;
const buffers_max = 64;
const parts_max = 8;
const free_byte = 0xee;

pub const Sends = struct {
    memory: []u8 = &.{},
    taken: [buffers_max]bool = @splat(false),

    pub fn init(arena: std.mem.Allocator) Error!Sends {
        return .{ .memory = try arena.alloc(u8, buffers_max * buffer_size) };
    }

    fn buffer(sends: *Sends, index: usize) []u8 {
        return sends.memory[index * buffer_size ..][0..buffer_size];
    }

    fn take(sends: *Sends) ?u8 {
        for (&sends.taken, 0..) |*taken, index| if (!taken.*) {
            taken.* = true;
            return @intCast(index);
        };
        return null;
    }
};

/// One send, from its call to its end.
pub const Send = struct {
    schedule: *Schedule,
    connection: *model.Connection,
    chunk: usize,
    total: u64,
    may_report: bool,
    buffers: [parts_max]u8 = undefined,
    lengths: [parts_max]usize = undefined,
    count: usize = 0,
    over: bool = false,

    /// The bytes of the stream from `position` on, in a buffer of their own.
    fn borrow(send: *Send, position: u64, len: usize) ?[]u8 {
        const sends = &send.schedule.sends;
        const index = sends.take() orelse return null;
        send.buffers[send.count] = index;
        send.lengths[send.count] = len;
        send.count += 1;
        const memory = sends.buffer(index)[0..len];
        @memcpy(memory, pattern.bytes(send.connection.stream.key, position, len));
        return memory;
    }

    fn give_back(send: *Send) void {
        const sends = &send.schedule.sends;
        for (send.buffers[0..send.count], send.lengths[0..send.count]) |index, len| {
            @memset(sends.buffer(index)[0..len], free_byte);
            sends.taken[index] = false;
        }
        send.count = 0;
    }
};

fn size(schedule: *Schedule) u32 {
    return switch (schedule.below(100)) {
        0...9 => 0,
        10...59 => schedule.below(300),
        60...89 => schedule.below(6000),
        else => schedule.below(buffer_size),
    };
}

pub fn start(schedule: *Schedule, index: u32) Error!void {
    const connection = schedule.connections[index].?;
    const send = try schedule.arena.create(Send);
    send.* = .{
        .schedule = schedule,
        .connection = connection,
        .chunk = 0,
        .total = 0,
        .may_report = false,
    };
    if (schedule.chance(15)) return forward(schedule, index, send);
    const arguments = &schedule.engine.arguments.*;
    arguments.* = std.mem.zeroes(abi.Arguments);
    const input = switch (if (schedule.lends) 2 + schedule.below(8) else schedule.below(10)) {
        0...2 => lend(schedule, send, arguments),
        3 => copy(schedule, send),
        else => list(schedule, send, arguments),
    } orelse return send.give_back();
    if (schedule.chance(10)) arguments.flags |= 1 << @intFromEnum(abi.SendFlag.copy);
    const engine = schedule.engine;
    const len: u32 = @intCast(input.len);
    const outcome = calls.connection_send(engine, index, connection.generation, input.ptr, len);
    if (outcome < 0) {
        send.give_back();
        return on_refusal(schedule, connection, outcome);
    }
    if (!connection.is_writable()) {
        return schedule.verdict.violation("a shut connection took a send", .{});
    }
    const operation = &schedule.operations[@intCast(outcome)];
    if (operation.pending) return schedule.verdict.violation("an operation in use", .{});
    send.chunk = try connection.stream.begin(schedule.arena, send.total, send.may_report);
    operation.* = .{ .pending = true, .generation = engine.control.generation, .send = send };
}

fn on_refusal(schedule: *Schedule, connection: *model.Connection, outcome: i32) Error!void {
    if (connection.is_gone(outcome) or outcome == errno.nomem) return;
    if (!connection.is_writable()) return;
    if (outcome != errno.pipe and outcome != errno.shutdown) {
        return schedule.verdict.violation("a send was refused with {d}", .{outcome});
    }
    connection.breaking = true;
}

fn lend(schedule: *Schedule, send: *Send, arguments: *abi.Arguments) ?[]const u8 {
    const memory = send.borrow(send.connection.stream.offered, size(schedule)) orelse return null;
    send.total = memory.len;
    arguments.options = 1 << @intFromEnum(abi.OperationOption.native_memory);
    arguments.address = @floatFromInt(@intFromPtr(memory.ptr));
    arguments.length = @intCast(memory.len);
    return "";
}

fn copy(schedule: *Schedule, send: *Send) ?[]const u8 {
    send.total = size(schedule);
    return send.connection.stream.next(@intCast(send.total));
}

/// What is handed in is the caller's again at once.
var input_memory: [parts_max * (16 + buffer_size)]u8 align(8) = undefined;

fn list(schedule: *Schedule, send: *Send, arguments: *abi.Arguments) ?[]const u8 {
    const count = 1 + schedule.below(parts_max);
    arguments.extra = count;
    // Parts that are not chained go as one message.
    const chained = schedule.chance(if (schedule.lends) 10 else 50);
    if (chained) arguments.flags |= 1 << @intFromEnum(abi.SendFlag.chained);
    if (schedule.chance(30)) {
        arguments.flags |= 1 << @intFromEnum(abi.SendFlag.report_break);
        send.may_report = true;
    }
    const copies = if (schedule.lends) 0 else schedule.below(3); // none, some, all
    const pairs: [*][2]f64 = @ptrCast(&input_memory);
    var end: usize = count * 16;
    for (pairs[0..count]) |*pair| {
        const len = size(schedule);
        const position = send.connection.stream.offered + send.total;
        if (copies == 2 or copies == 1 and schedule.chance(50)) {
            const bytes = pattern.bytes(send.connection.stream.key, position, len);
            @memcpy(input_memory[end..][0..len], bytes);
            end += len;
            pair.* = .{ 0, @floatFromInt(len) };
        } else {
            const memory = send.borrow(position, len) orelse return null;
            pair.* = .{ @floatFromInt(@intFromPtr(memory.ptr)), @floatFromInt(len) };
        }
        send.total += len;
    }
    return input_memory[0..end];
}

/// What another connection has received, so to speak.
fn forward(schedule: *Schedule, index: u32, send: *Send) Error!void {
    const connection = send.connection;
    const engine = schedule.engine;
    const self = engine.connections.find(index, connection.generation) orelse return;
    const memory = send.borrow(connection.stream.offered, 1 + schedule.below(4000)) orelse
        return send.give_back();
    send.total = memory.len;
    const owner: segments.Lent = .{ .release = released, .context = @intFromPtr(send) };
    const piped = schedule.chance(30) and forward_pipe(schedule, self, index, send, owner);
    const stays = schedule.below(3) > 0;
    const taken = piped or send_start.forward(self, engine, index, memory, stays, owner);
    if (!taken) return send.give_back();
    if (!connection.is_writable()) {
        return schedule.verdict.violation("a shut connection took what was forwarded", .{});
    }
    send.chunk = try connection.stream.begin(schedule.arena, send.total, false);
}

/// The same in a pipe, as far as it holds it. False: buffers serve as well.
fn forward_pipe(
    schedule: *Schedule,
    self: *Connection,
    index: u32,
    send: *Send,
    owner: segments.Lent,
) bool {
    const engine = schedule.engine;
    if (!send_start.takes(self)) return false;
    if (!splicing.make_non_blocking(self, engine)) return false;
    const pipe = splicing.acquire(engine) orelse return false;
    const memory = schedule.sends.buffer(send.buffers[0])[0..@intCast(send.total)];
    const held: u32 = @intCast(pipes.put(schedule.kernel, pipe, memory));
    if (splicing.queue(self, engine, index, pipe, held, 0, owner) < 0) {
        splicing.release(engine, pipe, false);
        return false;
    }
    send.total = held;
    return true;
}

fn released(_: *Engine, context: u64, sent: u64, _: u64) void {
    const send: *Send = @ptrFromInt(context);
    finish(send, sent) catch send.schedule.kernel.violate(send.schedule.verdict.message);
}

fn finish(send: *Send, sent: u64) Error!void {
    const verdict = &send.schedule.verdict;
    if (send.over) return verdict.violation("a loan was released twice", .{});
    send.over = true;
    send.give_back();
    try send.connection.stream.end(verdict, send.chunk, sent);
}

pub fn on_completion(
    schedule: *Schedule,
    operation: *const model.Operation,
    index: u32,
    result: i32,
) Error!void {
    const verdict = &schedule.verdict;
    const send = operation.send.?;
    const sent: u64 = @intFromFloat(calls.operation_sent(schedule.engine, index));
    const whole = sent == send.total;
    if (result == 1 and !whole or result != 1 and whole and send.total > 0) {
        return verdict.violation("{d} of {d} bytes with {d}", .{ sent, send.total, result });
    }
    const connection = send.connection;
    const ends = connection.shut == .terminate or connection.breaking or
        connection.connect_limited or connection.close_limited or connection.stage == .over or
        connection.peer != null and connection.peer.?.broken;
    if (result == 0 and !send.may_report) {
        return verdict.violation("a send broke off without a reason", .{});
    }
    const cancelled = operation.cancelled and result == errno.canceled;
    if (result < 0 and !cancelled and !ends) {
        // The connection fails, and says so with `close`, which may come later than this.
        connection.breaking = true;
        connection.must_fail = true;
    }
    try finish(send, sent);
}

/// Nothing is held back any more.
pub fn uncork_all(schedule: *Schedule) void {
    for (schedule.connections, 0..) |entry, index| {
        const connection = entry orelse continue;
        if (connection.is_live()) cork(schedule, @intCast(index), connection, false);
    }
}

pub fn cork(
    schedule: *Schedule,
    index: u32,
    connection: *const model.Connection,
    corked: bool,
) void {
    const option = @intFromEnum(abi.SocketOption.corked);
    const word = @intFromBool(corked);
    _ = calls.connection_option(schedule.engine, index, connection.generation, option, word);
}

/// The end of a run that nobody tore down.
pub fn expect_over(schedule: *Schedule) Error!void {
    for (schedule.sends.taken) |taken| if (taken) {
        return schedule.verdict.violation("a loan was never released", .{});
    };
    for (schedule.all.items) |connection| try connection.stream.expect_complete(&schedule.verdict);
}
