//! The bytes that an operation is started with: data, paths, addresses, pairs of numbers.
//!
//! One area for all: the library copies it before the call returns, and it is overwritten then.

const std = @import("std");
const abi = @import("../../abi.zig");
const model = @import("model.zig");
const Run = @import("../operations.zig").Run;
const Error = @import("../operations.zig").Error;
const Operation = model.Operation;

pub var bytes: [32 * 1024]u8 align(16) = undefined;
pub var len: usize = 0;

fn is_vector(operation: *const Operation) bool {
    return switch (operation.kind) {
        .readv, .writev, .sendmsg, .recvmsg => true,
        else => false,
    };
}

pub fn put(data: []const u8) void {
    @memcpy(bytes[0..data.len], data);
    len = data.len;
}

fn set_native(operation: *Operation, memory: []const u8) void {
    operation.set_option(.native_memory);
    operation.arguments.address = @floatFromInt(@intFromPtr(memory.ptr));
}

/// One to three vectors over memory that lies in one piece.
fn put_vectors(run: *Run, operation: *Operation, memory: []const u8) void {
    operation.set_option(.native_memory);
    const count = 1 + run.below(3);
    const pairs: [*][2]f64 = @ptrCast(&bytes);
    var at: usize = 0;
    for (0..count) |i| {
        const left = memory.len - at;
        const size = if (i + 1 == count) left else run.below(@intCast(left + 1));
        pairs[i] = .{ @floatFromInt(@intFromPtr(memory.ptr) + at), @floatFromInt(size) };
        at += size;
    }
    len = count * 16;
}

pub fn memory_to_read_into(run: *Run, operation: *Operation) Error!void {
    if (!run.chance(30) or operation.length() == 0) return;
    operation.native = try run.arena.alloc(u8, operation.length());
    if (is_vector(operation)) return put_vectors(run, operation, operation.native);
    set_native(operation, operation.native);
}

pub fn bytes_to_write(run: *Run, operation: *Operation) void {
    defer if (operation.kind == .sendmsg and run.chance(25)) put_destination(operation);
    if (!run.chance(30) or operation.data.len == 0) return put(operation.data);
    if (is_vector(operation)) return put_vectors(run, operation, operation.data);
    set_native(operation, operation.data);
}

/// In front of what is there.
fn put_destination(operation: *Operation) void {
    operation.set_option(.addressed);
    std.mem.copyBackwards(u8, bytes[@sizeOf(abi.Address)..][0..len], bytes[0..len]);
    const total = len + @sizeOf(abi.Address);
    put_address();
    len = total;
}

pub fn put_address() void {
    var address: abi.Address = .{ .family = .ipv4, .port = 0, .text_len = 9, .text = @splat(0) };
    @memcpy(address.text[0..9], "127.0.0.1");
    put(std.mem.asBytes(&address));
}

/// The length of the first of the paths.
pub fn put_paths(first: u8, second: ?u8) u32 {
    const one = std.fmt.bufPrint(&bytes, "n{d}", .{first}) catch unreachable; // 4 bytes at most
    len = one.len;
    const other = second orelse return @intCast(one.len);
    const both = std.fmt.bufPrint(bytes[one.len..], "\x00n{d}", .{other}) catch unreachable; // 5
    len += both.len;
    return @intCast(one.len);
}
