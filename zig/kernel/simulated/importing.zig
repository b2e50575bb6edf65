//! What the simulated kernel copies of an SQE when it takes it: addresses, times, headers, vectors.
//!
//! From then on only the data itself must keep still. What is wrong with it is an errno, which ends
//! the operation when its turn in its chain comes.

const std = @import("std");
const system = @import("../linux.zig");
const poison = @import("../../poison.zig");
const SocketAddress = @import("../address.zig").SocketAddress;
const simulated = @import("../simulated.zig");
const datagrams = @import("datagrams.zig");
const system_calls = @import("system_calls.zig");
const Operation = @import("operations.zig").Operation;
const Simulated = simulated.Simulated;
const errno = system.errno;

pub fn import(kernel: *Simulated, operation: *Operation, sqe: *const system.Sqe) i32 {
    switch (operation.row) {
        .timeout, .link_timeout => {
            const duration: *const system.Timespec = @ptrFromInt(sqe.addr);
            check_alive(kernel, std.mem.asBytes(duration));
            if (sqe.len != 1 or duration.sec < 0 or duration.nsec < 0) return errno.inval;
            // From the start on, which a member of a chain waits for.
            operation.deadline_ns = @as(u64, @intCast(duration.sec)) * std.time.ns_per_s +
                @as(u64, @intCast(duration.nsec));
        },
        .connect => return import_address(kernel, operation, sqe),
        .accept, .accept_multishot => {
            operation.name = sqe.addr;
            operation.name_len = sqe.off;
        },
        .send, .send_all, .receive_plain => if (sqe.opcode == .RECVMSG)
            return import_message(kernel, operation, sqe)
        else if (!operation.selects)
            add_part(kernel, operation, sqe.addr, sqe.len),
        .sendmsg, .sendmsg_all, .sendmsg_zero_copy => return import_message(kernel, operation, sqe),
        .send_zero_copy => {
            if (sqe.ioprio & system.sqe_flag.fixed_buffer != 0) {
                if (!kernel.registered.holds(sqe.buf_index, sqe.addr, sqe.len)) return errno.fault;
                operation.fixed_buffer = true;
            }
            add_part(kernel, operation, sqe.addr, sqe.len);
        },
        .shutdown => if (sqe.len > shut_both) return errno.inval,
        .system_call => return system_calls.import(kernel, operation, sqe),
        else => {},
    }
    return 0;
}

const shut_both = 2;

/// What was free already when the kernel came to look at it was filled for it to see.
fn check_alive(kernel: *Simulated, bytes: []const u8) void {
    if (bytes.len == 0 or !std.mem.allEqual(u8, bytes, poison.pattern)) return;
    kernel.violate("an entry names memory that is free when the kernel takes it");
}

pub fn import_address(kernel: *Simulated, operation: *Operation, sqe: *const system.Sqe) i32 {
    if (sqe.off > @sizeOf(@FieldType(SocketAddress, "bytes"))) return errno.inval;
    const bytes: [*]const u8 = @ptrFromInt(sqe.addr);
    check_alive(kernel, bytes[0..sqe.off]);
    operation.target = .{ .bytes = @splat(0), .len = @intCast(sqe.off) };
    @memcpy(operation.target.bytes[0..sqe.off], bytes[0..sqe.off]);
    return 0;
}

const parts_max = 1024; // UIO_MAXIOV

fn import_message(kernel: *Simulated, operation: *Operation, sqe: *const system.Sqe) i32 {
    const header: *const system.MessageHeader = @ptrFromInt(sqe.addr);
    check_alive(kernel, std.mem.asBytes(header));
    if (operation.row == .receive_plain and header.name != null) {
        operation.name = @intFromPtr(header.name);
        operation.name_len = @intFromPtr(&header.namelen);
    }
    if (operation.row != .receive_plain) if (header.name) |name| {
        // A connected stream does not look at it.
        const bytes: [*]const u8 = @ptrCast(name);
        const family = std.mem.readInt(u16, bytes[0..2], .native);
        const sound = header.namelen == 16 and family == std.os.linux.AF.INET;
        if (!sound and !datagrams.is_one(kernel, sqe.fd)) {
            kernel.violate("a message is sent to what is no address");
        }
    };
    return import_parts(kernel, operation, header.iov, header.iovlen);
}

pub fn import_parts(
    kernel: *Simulated,
    operation: *Operation,
    parts: [*]const system.Iovec,
    count: usize,
) i32 {
    if (count > parts_max) return errno.inval;
    check_alive(kernel, std.mem.sliceAsBytes(parts[0..count]));
    for (parts[0..count]) |part| {
        add_part(kernel, operation, @intFromPtr(part.base), part.len);
    }
    return 0;
}

pub fn add_part(kernel: *Simulated, operation: *Operation, address: u64, len: usize) void {
    if (len == 0) return;
    const base: [*]const u8 = @ptrFromInt(address);
    operation.parts.append(kernel.allocator, .{ .base = base, .len = len }) catch
        simulated.out_of_memory();
    operation.total += len;
}
