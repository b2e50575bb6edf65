//! Judges the record of an operation: what it may say, and what must be true then.
//!
//! First what holds for every kind (`judge`), then the kind's own: bytes against the model of files
//! and streams, descriptors that are new, names that changed.

const std = @import("std");
const abi = @import("../../abi.zig");
const calls = @import("../../calls.zig");
const seam = @import("../../kernel.zig");
const pattern = @import("../pattern.zig");
const model = @import("model.zig");
const failures = @import("failures.zig");
const listed = @import("../../kernel/failures.zig");
const names = @import("names.zig");
const descriptors = @import("descriptors.zig");
const Descriptor = descriptors.Descriptor;
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;
const Column = model.Column;
const errno = seam.errno;

pub fn on_record(run: *Run, record: *const abi.Record) Error!void {
    const verdict = &run.verdict;
    if (record.event != .completion) return verdict.violation("a {t} record", .{record.event});
    const operation = run.by_slot[record.index] orelse
        return verdict.violation("a record of no operation", .{});
    if (operation.generation != record.generation) {
        return verdict.violation("a record of another generation", .{});
    }
    if (record.extra != 0) {
        if (operation.kind != .poll or !operation.option(.multishot)) {
            return verdict.violation("{t} has more to come", .{operation.kind});
        }
        return expect_events(run, operation, record.result);
    }
    run.by_slot[record.index] = null;
    run.pending -= 1;
    const column = try judge(run, operation, record.result);
    operation.settled = true;
    operation.broken = operation.is_break(record.result, column);
    if (operation.takes_out) if (stream_of(operation)) |stream| {
        try descriptors.sent(run, stream, record.result);
    };
    release(run, operation);
    run.seen.count(operation.kind, column);
    if (operation.native.len > 0 and !operation.uses_buffer) try retire(run, operation.native);
    if (run.chance(2)) {
        const outcome = calls.cancel(run.engine, operation.index, operation.generation);
        try run.expect_outcome("a cancel of what is over", errno.noent, outcome);
    }
}

/// Memory that was read into belongs to the user again: nobody writes to it any more.
fn retire(run: *Run, memory: []u8) Error!void {
    @memset(memory, Run.quiet);
    try run.retired.append(run.arena, memory);
}

/// The stream whose bytes the operation moves.
pub fn stream_of(operation: *const Operation) ?*Descriptor {
    if (!operation.takes_in and !operation.takes_out) return null;
    if (operation.kind == .splice and operation.takes_in) return operation.second;
    return operation.descriptor;
}

pub fn release(run: *Run, operation: *Operation) void {
    if (operation.descriptor) |descriptor| {
        descriptor.uses -= 1;
        if (operation.alone) descriptor.closing = false;
    }
    if (operation.second) |descriptor| descriptor.uses -= 1;
    if (stream_of(operation)) |stream| {
        if (operation.takes_in) stream.in_use = false;
        if (operation.takes_out) stream.out_use = false;
    }
    if (operation.node) |node| {
        const at = std.mem.indexOfScalar(*Operation, node.users.items, operation).?;
        _ = node.users.swapRemove(at);
    }
    run.names.release(operation);
}

fn wrong(run: *Run, operation: *const Operation, result: i32) Error {
    return run.verdict.violation("{t} ended with {d}", .{ operation.kind, result });
}

/// How it ended, or what is wrong with that.
fn judge(run: *Run, operation: *Operation, result: i32) Error!Column {
    if (operation.previous) |previous| if (!previous.settled) {
        return run.verdict.violation("{t} ended before what it is linked to", .{operation.kind});
    };
    if (operation.is_cut_off()) {
        if (result != errno.canceled) {
            return run.verdict.violation("{t} ended with {d} though its chain broke", .{
                operation.kind, result,
            });
        }
        operation.unlinked = true;
        return if (operation.cancelled) .cancelled else .unlinked;
    }
    if (operation.withdrawn) {
        return if (result == errno.canceled) .cancelled else wrong(run, operation, result);
    }
    if (try failures.judge(run, operation, result)) |column| return column;
    if (result == errno.canceled) {
        if (!operation.cancelled) return wrong(run, operation, result);
        give_up(operation);
        return .cancelled;
    }
    if (result == errno.timedout and operation.is_late(run.kernel.clock.now)) {
        give_up(operation);
        return .timed_out;
    }
    if (operation.masked and model.has_no_plain_call(operation.kind)) {
        return expect(run, operation, result, errno.notsup);
    }
    if (operation.failure < 0) return expect(run, operation, result, operation.failure);
    return own_result(run, operation, result);
}

/// An attempt to connect that was given up leaves a socket of no use.
fn give_up(operation: *Operation) void {
    if (operation.kind == .connect) if (operation.descriptor) |descriptor| {
        descriptor.kind = .dead;
    };
}

/// Failures by chance of what is done by a plain call, and of what a close has flushed.
fn is_chance(operation: *const Operation, result: i32) bool {
    if (result != errno.io) return false;
    return operation.kind == .close or
        operation.masked and !model.has_no_plain_call(operation.kind);
}

fn expect(run: *Run, operation: *const Operation, result: i32, expected: i32) Error!Column {
    if (is_chance(operation, result)) return .failed;
    if (result != expected) {
        return run.verdict.violation("{t} ended with {d} instead of {d}", .{
            operation.kind, result, expected,
        });
    }
    return if (result < 0) .failed else .full;
}

fn own_result(run: *Run, operation: *Operation, result: i32) Error!Column {
    switch (operation.kind) {
        .nop => return expect(run, operation, result, 0),
        .timeout => {
            const elapsed = run.kernel.clock.now - operation.started_ns;
            const milliseconds: u64 = @intFromFloat(operation.arguments.offset);
            if (result != errno.time) return wrong(run, operation, result);
            if (elapsed >= milliseconds * std.time.ns_per_ms) return .full;
            return run.verdict.violation("a time-out ended too early", .{});
        },
        .fsync, .datasync, .sync_file_range => return expect(run, operation, result, 0),
        .fallocate, .ftruncate => return resized(run, operation, result),
        .read, .readv, .read_fixed, .write, .writev, .write_fixed => {
            if (operation.node == null) return moved_on_stream(run, operation, result);
            return moved_in_file(run, operation, result);
        },
        .send, .sendmsg, .recv, .recvmsg => return moved_on_stream(run, operation, result),
        .splice => return spliced(run, operation, result),
        .openat => return opened(run, operation, result),
        .statx => return described(run, operation, result),
        .rename, .unlink, .mkdir, .link, .symlink => {
            const column = try expect(run, operation, result, run.names.expected(operation));
            if (column == .full) run.names.apply(operation);
            return column;
        },
        .poll => {
            try expect_events(run, operation, result);
            return .full;
        },
        .socket, .bind, .listen, .accept, .connect, .shutdown, .close => {
            return changed(run, operation, result);
        },
    }
}

fn expect_events(run: *Run, operation: *const Operation, result: i32) Error!void {
    const always = std.posix.POLL.ERR | std.posix.POLL.HUP;
    const allowed: u32 = operation.arguments.mode | always;
    if (result > 0 and @as(u32, @intCast(result)) & ~allowed == 0) return;
    return wrong(run, operation, result);
}

// Files ----------------------------------------------------------------------------------------

fn resized(run: *Run, operation: *Operation, result: i32) Error!Column {
    const arguments = &operation.arguments;
    const column = try expect(run, operation, result, 0);
    if (column != .full) return column;
    const node = operation.node.?;
    const offset: u64 = @intFromFloat(arguments.offset);
    if (operation.kind == .ftruncate) {
        try node.resize(run.arena, offset);
    } else if (arguments.flags & names.flag.keep_size == 0) {
        const end = offset + @as(u64, @intFromFloat(arguments.offset_second));
        if (end > node.size()) try node.resize(run.arena, end);
    }
    return column;
}

/// Where in the file it began.
fn start_of(operation: *const Operation, offset: f64, file: *const Descriptor) u64 {
    _ = operation;
    return if (offset < 0) file.position else @intFromFloat(offset);
}

fn moved_in_file(run: *Run, operation: *Operation, result: i32) Error!Column {
    if (is_chance(operation, result)) return .failed;
    if (result < 0) return wrong(run, operation, result);
    const file = operation.descriptor.?;
    const node = operation.node.?;
    const own = operation.arguments.offset < 0;
    const start = start_of(operation, operation.arguments.offset, file);
    const count: u64 = @intCast(result);
    switch (operation.kind) {
        .read, .readv, .read_fixed => {
            const there = node.read(start, operation.length());
            if (count > there.len) return wrong(run, operation, result);
            if (count == 0 and there.len > 0) return wrong(run, operation, result);
            const seen = try bytes_of(run, operation, count);
            if (!std.mem.eql(u8, there[0..count], seen)) {
                return run.verdict.violation("{t} read other bytes than are there", .{
                    operation.kind,
                });
            }
        },
        else => {
            if (count > operation.length()) return wrong(run, operation, result);
            if (count == 0 and operation.length() > 0) return wrong(run, operation, result);
            try node.write(run.arena, start, operation.data[0..count]);
        },
    }
    if (own) file.position += count;
    return if (count == operation.length()) .full else .short;
}

/// What the operation has read: in the user's memory, or copied out of the library's.
fn bytes_of(run: *Run, operation: *const Operation, count: u64) Error![]const u8 {
    if (operation.native.len > 0) return operation.native[0..count];
    if (count == 0) return &.{};
    const len: u32 = @intCast(count);
    const outcome = calls.operation_read(run.engine, operation.index, &scratch, len);
    try run.expect_outcome("operation_read", 0, outcome);
    return scratch[0..count];
}

var scratch: [32 * 1024]u8 align(8) = undefined;

fn opened(run: *Run, operation: *Operation, result: i32) Error!Column {
    const flags = operation.arguments.flags;
    const name = operation.names[0].?;
    if (result == errno.mfile or result == errno.nfile) return .failed;
    if (is_chance(operation, result)) return .failed;
    switch (try run.names.open(run.arena, name, flags, result < 0)) {
        .failure => |failure| return expect(run, operation, result, failure),
        .node => |node| {
            if (result < 0) return wrong(run, operation, result);
            const file = try descriptors.add(run, result, .file);
            file.node = node;
            return .full;
        },
    }
}

fn described(run: *Run, operation: *Operation, result: i32) Error!Column {
    const column = try expect(run, operation, result, run.names.expected(operation));
    if (column != .full) return column;
    const node = operation.node orelse return column;
    const outcome = calls.operation_read(run.engine, operation.index, &scratch, 256);
    try run.expect_outcome("operation_read", 0, outcome);
    const size = std.mem.readInt(u64, scratch[40..48], .native); // stx_size
    if (size == node.size()) return column;
    return run.verdict.violation("a file has {d} bytes, not {d}", .{ node.size(), size });
}

// Streams --------------------------------------------------------------------------------------

fn is_out(operation: *const Operation) bool {
    return operation.takes_out;
}

fn moved_on_stream(run: *Run, operation: *Operation, result: i32) Error!Column {
    const stream = operation.descriptor.?;
    descriptors.look(run, stream);
    if (is_chance(operation, result)) return .failed;
    if (result < 0) return stream_failure(run, operation, stream, result);
    const count: u64 = @intCast(result);
    if (count > operation.length()) return wrong(run, operation, result);
    const column: Column = if (count == operation.length()) .full else .short;
    if (is_out(operation)) {
        if (count == 0 and operation.length() > 0) return wrong(run, operation, result);
        return column;
    }
    const seen = try bytes_of(run, operation, count);
    try took_in(run, operation, stream, seen);
    return column;
}

fn took_in(run: *Run, operation: *Operation, stream: *Descriptor, seen: []const u8) Error!void {
    if (seen.len == 0 and operation.length() > 0) {
        if (stream.broken or stream.half_closed and stream.consumed == stream.sent) return;
        return run.verdict.violation("the end of a stream that goes on", .{});
    }
    if (stream.consumed + seen.len > stream.sent) {
        return run.verdict.violation("{t} got more than was sent", .{operation.kind});
    }
    if (!pattern.matches(stream.key, stream.consumed, seen)) {
        return run.verdict.violation("{t} got other bytes than were sent", .{operation.kind});
    }
    stream.consumed += seen.len;
}

fn stream_failure(
    run: *Run,
    operation: *Operation,
    stream: *Descriptor,
    result: i32,
) Error!Column {
    const allowed = switch (result) {
        errno.again => operation.arguments.flags & seam.socket_flag.dont_wait != 0,
        errno.connreset, errno.timedout, errno.notconn => stream.broken,
        errno.pipe => stream.broken or stream.shut,
        else => false,
    };
    return if (allowed) .failed else wrong(run, operation, result);
}

fn spliced(run: *Run, operation: *Operation, result: i32) Error!Column {
    const stream = stream_of(operation).?;
    descriptors.look(run, stream);
    if (is_chance(operation, result)) return .failed;
    if (result < 0) return stream_failure(run, operation, stream, result);
    const count: u64 = @intCast(result);
    if (count > operation.length()) return wrong(run, operation, result);
    const column: Column = if (count == operation.length()) .full else .short;
    if (operation.takes_out) {
        if (count > operation.data.len) return wrong(run, operation, result);
        return column;
    }
    const file = operation.descriptor.?;
    const bytes = pattern.bytes(stream.key, stream.consumed, count);
    try took_in(run, operation, stream, bytes); // where they are is seen when the file is read
    const own = operation.arguments.offset < 0;
    const start = start_of(operation, operation.arguments.offset, file);
    try operation.node.?.write(run.arena, start, bytes);
    if (own) file.position += count;
    return column;
}

// Sockets --------------------------------------------------------------------------------------

fn changed(run: *Run, operation: *Operation, result: i32) Error!Column {
    if (operation.kind == .socket) {
        if (result == errno.mfile or result == errno.nfile) return .failed;
        if (result < 0) return expect(run, operation, result, 0);
        _ = try descriptors.add(run, result, .fresh);
        return .full;
    }
    const descriptor = operation.descriptor.?;
    switch (operation.kind) {
        .close => {
            const column: Column = if (result == 0) .full else .failed;
            if (result != 0 and !is_chance(operation, result)) return wrong(run, operation, result);
            descriptors.remove(run, descriptor); // whatever it says
            return column;
        },
        .bind => {
            const expected = if (descriptor.kind == .fresh) 0 else errno.inval;
            const column = try expect(run, operation, result, expected);
            if (column == .full) descriptor.kind = .bound;
            return column;
        },
        .listen => {
            const expected = if (descriptor.kind == .bound) 0 else errno.inval;
            const column = try expect(run, operation, result, expected);
            if (column == .full) descriptor.kind = .listening;
            return column;
        },
        .connect => {
            if (result == 0) {
                try descriptors.become_stream(run, descriptor);
                return .full;
            }
            descriptor.kind = .dead;
            const is_listed = std.mem.indexOfScalar(i32, listed.of(.CONNECT), result) != null;
            return if (is_listed) .failed else wrong(run, operation, result);
        },
        .shutdown => {
            descriptors.look(run, descriptor);
            if (result == errno.notconn and descriptor.broken) return .failed;
            const column = try expect(run, operation, result, 0);
            if (column == .full) descriptor.shut = true;
            return column;
        },
        .accept => return accepted(run, operation, result),
        else => unreachable, // `own_result` asks for these
    }
}

fn accepted(run: *Run, operation: *Operation, result: i32) Error!Column {
    if (result < 0) {
        const is_listed = std.mem.indexOfScalar(i32, &listed.of_accept, result) != null;
        return if (is_listed) .failed else wrong(run, operation, result);
    }
    const stream = try descriptors.add(run, result, .stream);
    try descriptors.become_stream(run, stream);
    var told: abi.Address = undefined;
    const outcome = calls.operation_address(run.engine, operation.index, &told);
    try run.expect_outcome("operation_address", 0, outcome);
    var address: seam.SocketAddress = undefined;
    if (run.kernel.network.name_of(result, .remote, &address) < 0) return .full; // broken already
    var expected: abi.Address = undefined;
    address.print(&expected);
    if (std.mem.eql(u8, std.mem.asBytes(&told), std.mem.asBytes(&expected))) return .full;
    return run.verdict.violation("an accepted connection has another address", .{});
}
