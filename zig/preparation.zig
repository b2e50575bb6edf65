//! What an operation is given: arguments checked, memory acquired, input copied.
//!
//! Everything that can fail does so here, before the operation is on its way; afterwards only the
//! kernel has a say. Nothing here trusts its caller. Called by `calls.zig`.

const std = @import("std");
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const registration = @import("registration.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("operation.zig").Operation;
const errno = seam.errno;

/// What the kernel would not refuse in a way that names the mistake, or what would harm us.
pub fn check_arguments(
    kind: abi.OperationKind,
    arguments: *const abi.Arguments,
    whole: []const u8,
) i32 {
    if (is_addressed(arguments) and kind != .sendmsg) return errno.inval;
    if (has(arguments, .descriptors) and !carries_descriptors(kind, arguments)) return errno.inval;
    const parts = Input.of(kind, arguments, whole) orelse return errno.inval;
    const input = parts.data;
    if (!(arguments.timeout_ms <= timeout_ms_max)) return errno.inval; // NaN fails it too
    if (!position_valid(arguments.offset)) return errno.inval;
    if (!position_valid(arguments.offset_second)) return errno.inval;
    if (registration.whole(arguments.address) == null) return errno.inval;
    if (!file_valid(kind, arguments)) return errno.inval;
    const native = arguments.options >> @intFromEnum(abi.OperationOption.native_memory) & 1 != 0;
    if (native and arguments.length > 0 and !(arguments.address >= 4096)) {
        if (!takes_vectors(kind)) return errno.inval;
    }
    const moved_out = kind == .write or kind == .writev or kind == .send or kind == .sendmsg;
    if (moved_out and !native and arguments.length > input.len) return errno.inval;
    if (takes_vectors(kind) and native and input.len % (2 * @sizeOf(f64)) != 0) return errno.inval;
    const sound = switch (kind) {
        .nop => true,
        .timeout => arguments.offset >= 0 and arguments.offset <= timeout_ms_max,
        .openat, .statx, .unlink, .mkdir => return check_paths(input, 1, 0),
        .rename, .link, .symlink => return check_paths(input, 2, arguments.extra),
        .bind, .connect => arguments.fd >= 0 and input.len == @sizeOf(abi.Address),
        .splice => arguments.fd >= 0 and arguments.fd_second >= 0,
        else => arguments.fd >= 0,
    };
    return if (sound) 0 else errno.inval;
}

fn has(arguments: *const abi.Arguments, comptime option: abi.OperationOption) bool {
    return arguments.options >> @intFromEnum(option) & 1 != 0;
}

fn is_addressed(arguments: *const abi.Arguments) bool {
    return has(arguments, .addressed);
}

fn carries_descriptors(kind: abi.OperationKind, arguments: *const abi.Arguments) bool {
    if (arguments.extra == 0 or arguments.extra > abi.descriptors_max) return false;
    return kind == .sendmsg or kind == .recvmsg;
}

/// What comes in a call: | address | descriptors | data |, the first two where options say so.
const Input = struct {
    address: []const u8 = &.{},
    descriptors: []align(1) const i32 = &.{},
    data: []const u8,

    fn of(kind: abi.OperationKind, arguments: *const abi.Arguments, whole: []const u8) ?Input {
        var input: Input = .{ .data = whole };
        if (is_addressed(arguments)) {
            if (input.data.len < @sizeOf(abi.Address)) return null;
            input.address = input.data[0..@sizeOf(abi.Address)];
            input.data = input.data[@sizeOf(abi.Address)..];
        } else if (kind == .bind or kind == .connect) {
            input.address = input.data;
        }
        if (kind == .sendmsg and has(arguments, .descriptors)) {
            const size = arguments.extra * @sizeOf(i32);
            if (input.data.len < size) return null;
            input.descriptors = std.mem.bytesAsSlice(i32, input.data[0..size]);
            input.data = input.data[size..];
        }
        return input;
    }
};

/// Registered files only where the descriptor is the subject, not a directory or a type.
fn file_valid(kind: abi.OperationKind, arguments: *const abi.Arguments) bool {
    const bit = @intFromEnum(abi.OperationOption.registered_file);
    if (arguments.options >> bit & 1 == 0) return true;
    return arguments.fd >= 0 and switch (kind) {
        .read, .write, .readv, .writev, .read_fixed, .write_fixed, .fsync, .datasync => true,
        .fallocate, .sync_file_range, .send, .recv, .sendmsg, .recvmsg, .poll => true,
        else => false,
    };
}

/// About 24 days: what a timespec holds is more, what anybody means is less.
const timeout_ms_max = 2_147_483_648;
const path_max = 4096; // PATH_MAX

fn position_valid(offset: f64) bool {
    return offset == -1 or registration.whole(offset) != null or
        (offset > 0 and offset <= timeout_ms_max); // a duration may have a fraction
}

fn takes_vectors(kind: abi.OperationKind) bool {
    return switch (kind) {
        .readv, .writev, .sendmsg, .recvmsg => true,
        else => false,
    };
}

/// Exactly as many NULs as separate the paths, and none of them empty beyond the first.
fn check_paths(input: []const u8, count: usize, first_len: u32) i32 {
    if (input.len == 0) return errno.noent;
    if (input.len > count * path_max) return errno.nametoolong;
    if (std.mem.count(u8, input, "\x00") != count - 1) return errno.inval;
    if (count == 2 and (first_len >= input.len or input[first_len] != 0)) return errno.inval;
    return 0;
}

/// Memory, copies and registered resources: all that can fail before the operation is on its way.
pub fn set_up(engine: *Engine, self: *Operation, whole: []const u8) i32 {
    const output_len = output_size(self);
    const parts = Input.of(self.kind, &self.arguments, whole).?; // it was checked
    const input = parts.data;
    self.input_len = @intCast(input.len);
    if (input.len > 0 or output_len > 0 or needs_block(self)) {
        const size = self.block_size(@intCast(input.len), output_len);
        self.block = engine.transfers.acquire(size) catch return errno.nomem;
        if (input.len > 0) {
            @memcpy(self.input(), input);
            self.block.bytes[
                @intFromPtr(self.input().ptr) - @intFromPtr(self.block.bytes.ptr) +
                    input.len
            ] = 0; // the last path's NUL
        }
    }
    if (takes_vectors(self.kind) and self.option(.native_memory)) {
        const outcome = read_vectors(self);
        if (outcome < 0) return outcome;
    }
    if (self.kind == .bind or self.kind == .connect or self.option(.addressed)) {
        const copy = std.mem.bytesToValue(abi.Address, parts.address[0..@sizeOf(abi.Address)]);
        self.socket_address().* = seam.SocketAddress.from_boundary(&copy) orelse
            return errno.inval;
    }
    if (parts.descriptors.len > 0) seam.rights.write(self.control(), parts.descriptors);
    self.forget_descriptors(); // of whoever had the block before
    return registration.operation_starts(engine, self);
}

fn needs_block(self: *const Operation) bool {
    return self.timed or switch (self.kind) {
        .timeout, .accept, .recvmsg, .sendmsg, .readv, .writev => true,
        else => false,
    };
}

fn output_size(self: *const Operation) u32 {
    if (self.option(.native_memory)) return 0;
    return switch (self.kind) {
        .read, .recv, .readv, .recvmsg => self.arguments.length,
        .statx => 256, // struct statx, see statx(2)
        else => 0,
    };
}

/// Pairs of numbers to vectors, in place: both have sixteen bytes.
fn read_vectors(self: *Operation) i32 {
    comptime std.debug.assert(@sizeOf(seam.Iovec) == 2 * @sizeOf(f64));
    const parts = self.vectors();
    for (parts) |*part| {
        const pair: *const [2]f64 = @ptrCast(part);
        const address = registration.whole(pair[0]) orelse return errno.inval;
        const len = registration.whole(pair[1]) orelse return errno.inval;
        if (address < 4096) return errno.inval;
        part.* = .{ .base = @ptrFromInt(address), .len = len };
    }
    return 0;
}
