//! Makes up operations of every kind: arguments, memory, and what the model must know of them.
//!
//! An operation that would make a result unknowable (two writers of one byte, two readers of one
//! stream) is not started. Some are wrong on purpose: closed descriptors, the wrong kind of them,
//! places that are not registered, ranges beyond a buffer.

const std = @import("std");
const abi = @import("../../abi.zig");
const seam = @import("../../kernel.zig");
const pattern = @import("../pattern.zig");
const files = @import("files.zig");
const input = @import("input.zig");
const model = @import("model.zig");
const names = @import("names.zig");
const registrations = @import("registrations.zig");
const Descriptor = @import("descriptors.zig").Descriptor;
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;
const Kind = model.Kind;
const errno = seam.errno;

const blank: abi.Arguments = blank: {
    var arguments = std.mem.zeroes(abi.Arguments);
    arguments.timeout_ms = -1;
    break :blank arguments;
};

const working_directory = -100; // AT_FDCWD

/// Null if nothing fits that could be done with this kind now.
pub fn build(run: *Run, kind: Kind, previous: ?*Operation) Error!?*Operation {
    const operation = run.unused orelse try run.arena.create(Operation);
    run.unused = operation;
    operation.* = .{
        .kind = kind,
        .arguments = blank,
        .masked = run.engine.plain_kinds.isSet(@intFromEnum(kind)),
        .previous = previous,
    };
    // What a plain call has done already, no link can hold back: the batch would be refused.
    if (operation.masked and previous != null and !run.chance(3)) return null;
    if (run.chance(run.timeouts)) operation.arguments.timeout_ms = @floatFromInt(run.one_of(
        &.{ 0, 0, 1, 5, 50, 1000 },
    ));
    input.len = 0;
    const fits = try fill(run, operation);
    if (!fits) return null;
    run.unused = null;
    return operation;
}

fn fill(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    switch (operation.kind) {
        .nop => return true,
        .timeout => {
            arguments.offset = @floatFromInt(run.one_of(&.{ 0, 1, 10, 100 }));
            return true;
        },
        .openat, .statx, .rename, .unlink, .mkdir, .link, .symlink => {
            return on_names(run, operation);
        },
        .socket => {
            arguments.fd = std.posix.AF.INET;
            arguments.mode = std.posix.SOCK.STREAM;
            return run.descriptors.items.len < run.descriptors_max;
        },
        .splice => return files.splice(run, operation),
        else => {},
    }
    const scarce = operation.kind == .bind or operation.kind == .listen;
    if (run.chance(if (scarce) 1 else 6)) return wrong_descriptor(run, operation);
    return switch (operation.kind) {
        .read, .readv, .read_fixed => files.read(run, operation),
        .write, .writev, .write_fixed => files.write(run, operation),
        .send, .sendmsg => send(run, operation),
        .recv, .recvmsg => receive(run, operation),
        .fsync, .datasync, .sync_file_range => files.on_file(run, operation),
        .fallocate, .ftruncate => files.on_file(run, operation),
        .close, .bind, .listen, .connect, .shutdown => alone(run, operation),
        .accept => pick(run, operation, &.{.listening}),
        .poll => poll(run, operation),
        else => unreachable, // `fill` has the others
    };
}

/// Closed, negative, or of a kind that the call refuses.
fn wrong_descriptor(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    arguments.fd = registrations.bad_fd;
    arguments.length = 16;
    operation.failure = errno.badf;
    switch (operation.kind) {
        .bind, .connect => input.put_address(),
        .write, .writev, .send, .sendmsg => input.put(pattern.bytes(1, 0, 16)),
        .read_fixed, .write_fixed => if (run.buffers.state != .registered) return false,
        else => {},
    }
    if (operation.kind == .read_fixed or operation.kind == .write_fixed) {
        operation.uses_buffer = true;
        operation.native = run.buffers.buffers[0][0..16];
        if (!files.is_apart(run, operation.native)) return false;
    }
    if (run.chance(10)) {
        arguments.fd = -1;
        operation.refusal = errno.inval;
    } else if (operation.kind == .send and run.chance(30)) {
        if (!try pick(run, operation, &.{.file})) return false;
        operation.failure = errno.notsock;
    }
    return true;
}

/// A descriptor of one of these kinds, perhaps by its registered place.
pub fn pick(
    run: *Run,
    operation: *Operation,
    kinds: []const @import("descriptors.zig").Kind,
) Error!bool {
    const all = run.descriptors.items;
    if (all.len == 0) return false;
    const first = run.below(@intCast(all.len));
    for (0..all.len) |i| {
        const descriptor = all[(first + i) % all.len];
        if (!descriptor.is_usable()) continue;
        if (descriptor.broken and operation.kind != .close and !run.chance(20)) continue;
        if (std.mem.indexOfScalar(@TypeOf(kinds[0]), kinds, descriptor.kind) == null) continue;
        operation.descriptor = descriptor;
        operation.arguments.fd = descriptor.fd;
        name_place(run, operation);
        return true;
    }
    return false;
}

/// Kinds whose subject the descriptor is, and that may name it by its place.
fn takes_place(kind: Kind) bool {
    return switch (kind) {
        .read, .write, .readv, .writev, .read_fixed, .write_fixed, .fsync, .datasync => true,
        .fallocate, .sync_file_range, .send, .recv, .sendmsg, .recvmsg, .poll => true,
        else => false,
    };
}

fn name_place(run: *Run, operation: *Operation) void {
    if (!takes_place(operation.kind) or !run.chance(30)) return;
    const places = &run.files;
    if (places.state != .registered) {
        if (!run.chance(10)) return;
        operation.set_option(.registered_file);
        operation.arguments.fd = @intCast(run.below(registrations.places_max));
        operation.refusal = places.refusal(0);
        return;
    }
    for (places.files[0..places.count], 0..) |file, place| {
        if (file != operation.descriptor) continue;
        operation.set_option(.registered_file);
        operation.arguments.fd = @intCast(place);
        operation.uses_file = true;
        return;
    }
}

// Streams --------------------------------------------------------------------------------------

pub fn length(run: *Run) u32 {
    return switch (run.below(100)) {
        0...2 => 0,
        3...89 => 1 + run.below(500),
        90...97 => 1 + run.below(5000),
        else => 1 + run.below(9000),
    };
}

pub fn stream_is_free(operation: *const Operation) bool {
    const descriptor = operation.descriptor.?;
    return !(operation.takes_in and descriptor.in_use) and
        !(operation.takes_out and descriptor.out_use);
}

fn message_flags(run: *Run) u32 {
    var flags: u32 = 0;
    if (run.chance(30)) flags |= seam.socket_flag.wait_all;
    if (run.chance(10)) flags |= seam.socket_flag.dont_wait;
    return flags;
}

fn send(run: *Run, operation: *Operation) Error!bool {
    if (!try pick(run, operation, &.{.stream})) return false;
    operation.arguments.length = @max(length(run), 1);
    operation.arguments.flags = message_flags(run);
    operation.data = pattern.bytes(run.prng.next(), 0, operation.length());
    operation.takes_out = true;
    const descriptor = operation.descriptor.?;
    if ((descriptor.is_pipe or descriptor.shut) and !run.chance(10)) return false;
    if (descriptor.is_pipe) operation.failure = errno.notsock;
    input.bytes_to_write(run, operation);
    return stream_is_free(operation);
}

fn receive(run: *Run, operation: *Operation) Error!bool {
    if (!try pick(run, operation, &.{.stream})) return false;
    operation.arguments.length = @max(length(run), 1);
    operation.arguments.flags = message_flags(run);
    operation.takes_in = true;
    if (operation.descriptor.?.is_pipe and !run.chance(10)) return false;
    if (operation.descriptor.?.is_pipe) operation.failure = errno.notsock;
    try input.memory_to_read_into(run, operation);
    return stream_is_free(operation);
}

/// What changes the descriptor itself.
fn alone(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    const found = switch (operation.kind) {
        .close => try pick(run, operation, run.kinds_to_close()),
        .bind, .listen => try pick(run, operation, &.{ .fresh, .bound }),
        .connect => try pick(run, operation, &.{ .fresh, .bound }),
        else => try pick(run, operation, &.{.stream}),
    };
    if (!found) return false;
    const descriptor = operation.descriptor.?;
    if (operation.kind == .close) {
        if (descriptor.places > 0) return false;
        // Else there would never be many.
        if (run.descriptors.items.len < run.descriptors_max / 2 and run.chance(50)) return false;
    }
    if (operation.kind == .bind or operation.kind == .connect) input.put_address();
    if (operation.kind == .listen) arguments.length = 8;
    if (operation.kind == .shutdown) {
        arguments.flags = seam.socket_flag.shut_write;
        operation.takes_out = true;
        if (descriptor.is_pipe and !run.chance(10)) return false;
        if (descriptor.is_pipe) operation.failure = errno.notsock;
        // A stream that is shut says little more.
        return stream_is_free(operation) and run.chance(30);
    }
    operation.alone = true;
    return descriptor.uses == 0;
}

fn poll(run: *Run, operation: *Operation) Error!bool {
    if (!try pick(run, operation, &.{ .stream, .listening, .file })) return false;
    operation.arguments.mode = run.one_of(&.{ 1, 4, 5 }); // POLLIN, POLLOUT
    if (run.chance(40)) operation.set_option(.multishot);
    return true;
}

// Names ----------------------------------------------------------------------------------------

fn on_names(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    const name: u8 = @intCast(run.below(names.count));
    const other: u8 = @intCast(run.below(names.count));
    arguments.fd = working_directory;
    arguments.fd_second = working_directory;
    operation.names[0] = name;
    switch (operation.kind) {
        .openat => {
            if (run.descriptors.items.len >= run.descriptors_max) return false;
            if (run.chance(70)) arguments.flags |= names.flag.create;
            if (run.chance(10)) arguments.flags |= names.flag.exclusive;
            if (run.chance(10)) arguments.flags |= names.flag.truncate;
            arguments.mode = 0o644;
            operation.names[1] = run.names.target_of(name);
            if (arguments.flags & names.flag.truncate != 0) hold_node(run, operation, name, true);
        },
        .statx => {
            arguments.flags = 0x100; // AT_SYMLINK_NOFOLLOW
            arguments.mode = 0x7ff; // STATX_BASIC_STATS
            if (run.names.target_of(name) == null) hold_node(run, operation, name, false);
        },
        .unlink => if (run.chance(30)) {
            arguments.flags = names.flag.remove_directory;
        },
        .mkdir => arguments.mode = 0o755,
        .rename, .link => operation.names[1] = other,
        .symlink => operation.target = other,
        else => unreachable, // `fill` asks for these
    }
    const two = operation.kind == .rename or operation.kind == .link;
    if (two and name == other) return false;
    if (operation.kind == .symlink) {
        arguments.extra = input.put_paths(other, name);
    } else {
        arguments.extra = input.put_paths(name, if (two) other else null);
    }
    if (operation.node) |node| if (!node.is_free(operation, false)) return false;
    return run.names.is_free(operation);
}

fn hold_node(run: *Run, operation: *Operation, name: u8, exclusive: bool) void {
    operation.node = run.names.node_of(name);
    operation.exclusive = exclusive;
    operation.end = names.whole;
}
