//! Makes up reads, writes and splices, and what else is done to files: ranges that nobody is at.
//!
//! Called by `build.zig`. A range that somebody works on is left alone unless a chain keeps order.

const std = @import("std");
const pattern = @import("../pattern.zig");
const seam = @import("../../kernel.zig");
const input = @import("input.zig");
const model = @import("model.zig");
const names = @import("names.zig");
const registrations = @import("registrations.zig");
const building = @import("build.zig");
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;
const errno = seam.errno;
const pick = building.pick;
const length = building.length;
const stream_is_free = building.stream_is_free;

/// Offsets and lengths keep files below this.
const file_size = 12 * 1024;

fn is_fixed(operation: *const Operation) bool {
    return operation.kind == .read_fixed or operation.kind == .write_fixed;
}

pub fn read(run: *Run, operation: *Operation) Error!bool {
    operation.arguments.length = length(run);
    if (run.chance(30) and !operation.masked) {
        if (!try pick(run, operation, &.{.stream})) return false;
        operation.takes_in = true;
        operation.arguments.offset = -1;
    } else {
        if (!try pick(run, operation, &.{.file})) return false;
        if (!choose_range(run, operation, false)) return false;
    }
    if (!stream_is_free(operation)) return false;
    if (is_fixed(operation)) return fixed(run, operation);
    try input.memory_to_read_into(run, operation);
    return true;
}

pub fn write(run: *Run, operation: *Operation) Error!bool {
    operation.arguments.length = length(run);
    operation.data = pattern.bytes(run.prng.next(), 0, operation.length());
    if (run.chance(30) and !operation.masked) {
        if (!try pick(run, operation, &.{.stream})) return false;
        operation.takes_out = true;
        operation.arguments.offset = -1;
    } else {
        if (!try pick(run, operation, &.{.file})) return false;
        if (!choose_range(run, operation, true)) return false;
    }
    if (!stream_is_free(operation)) return false;
    if (is_fixed(operation)) return fixed(run, operation);
    input.bytes_to_write(run, operation);
    return true;
}

/// The bytes of the file that it works on; false if somebody is there.
fn choose_range(run: *Run, operation: *Operation, writes: bool) bool {
    const descriptor = operation.descriptor.?;
    const node = descriptor.node.?;
    operation.node = node;
    operation.exclusive = writes;
    if (run.chance(15) and descriptor.position < file_size) {
        operation.arguments.offset = -1; // moves the position: nobody else meanwhile
        operation.exclusive = true;
        operation.end = names.whole;
    } else {
        const reach: u32 = @intCast(@min(node.size() + 100, file_size));
        const offset = run.below(reach);
        operation.arguments.offset = @floatFromInt(offset);
        operation.first = if (writes) operation.write_begins(offset, node.size()) else offset;
        operation.end = offset + operation.length();
    }
    return node.is_free(operation, false);
}

/// A piece of a registered buffer that nobody else works on.
fn fixed(run: *Run, operation: *Operation) bool {
    const buffers = &run.buffers;
    const arguments = &operation.arguments;
    const place = run.below(registrations.places_max);
    arguments.extra = place;
    operation.uses_buffer = true;
    if (buffers.state != .registered and !run.chance(10)) return false;
    // The buffer is looked at before the file.
    if (buffers.refusal(place) < 0) {
        operation.refusal = buffers.refusal(place);
        return true;
    }
    arguments.length = @min(arguments.length, registrations.buffer_size / 2);
    const offset = run.below(registrations.buffer_size / 2);
    arguments.offset_second = @floatFromInt(offset);
    if (arguments.length == 0) {
        operation.refusal = errno.inval;
        return true;
    }
    if (run.chance(3)) {
        arguments.offset_second = registrations.buffer_size - 1;
        arguments.length += 1;
        operation.refusal = errno.overflow;
        return true;
    }
    operation.native = buffers.buffers[place][offset..][0..arguments.length];
    if (!is_apart(run, operation.native)) return false;
    if (operation.kind == .write_fixed) {
        operation.data = operation.data[0..arguments.length];
        @memcpy(operation.native, operation.data);
    }
    return true;
}

/// True if no operation in flight works on any of these bytes of a registered buffer.
pub fn is_apart(run: *Run, bytes: []const u8) bool {
    const first = @intFromPtr(bytes.ptr);
    for (run.by_slot) |entry| if (entry) |other| {
        if (!other.uses_buffer) continue;
        const start = @intFromPtr(other.native.ptr);
        if (start < first + bytes.len and first < start + other.native.len) return false;
    };
    return true;
}

pub fn on_file(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    if (!try pick(run, operation, &.{.file})) return false;
    switch (operation.kind) {
        .fallocate, .ftruncate => {
            arguments.offset = @floatFromInt(run.below(file_size));
            arguments.offset_second = @floatFromInt(1 + run.below(1000));
            const keep = operation.kind == .fallocate and run.chance(30);
            if (keep) arguments.flags = names.flag.keep_size;
            operation.node = operation.descriptor.?.node;
            operation.exclusive = true;
            operation.end = names.whole;
            return operation.node.?.is_free(operation, false);
        },
        .sync_file_range => arguments.length = 100,
        else => {},
    }
    return true;
}

pub fn splice(run: *Run, operation: *Operation) Error!bool {
    const arguments = &operation.arguments;
    arguments.length = @max(length(run), 1);
    arguments.offset_second = -1;
    if (run.chance(5)) {
        arguments.fd = registrations.bad_fd;
        arguments.fd_second = registrations.bad_fd;
        operation.failure = errno.badf;
        return true;
    }
    if (operation.masked) return false; // it might block for ever
    const pipe = for (run.descriptors.items) |descriptor| {
        if (descriptor.is_pipe and descriptor.is_usable()) break descriptor;
    } else return false;
    if (!try pick(run, operation, &.{.file})) return false;
    const file = operation.descriptor.?;
    if (run.chance(50)) {
        operation.second = pipe;
        arguments.fd_second = pipe.fd;
        operation.takes_in = true;
        if (!choose_range(run, operation, true)) return false;
        return !pipe.in_use;
    }
    if (operation.uses_file or operation.option(.registered_file)) return false;
    if (!choose_range(run, operation, false)) return false;
    if (!file.node.?.is_free(operation, true)) return false;
    if (arguments.offset < 0) return false;
    arguments.offset_second = arguments.offset;
    arguments.offset = -1;
    arguments.fd = pipe.fd;
    arguments.fd_second = file.fd;
    operation.second = file;
    operation.descriptor = pipe;
    operation.takes_out = true;
    const found = file.node.?.read(@intFromFloat(arguments.offset_second), arguments.length);
    operation.data = try run.arena.dupe(u8, found);
    return !pipe.out_use;
}
