//! Which attempt belongs to which opcode, and what an attempt can come to.
//!
//! An attempt never waits: it is done, or says what it waits for. `sockets.zig`, `messages.zig`,
//! `files.zig` and `polls.zig` make them; what cannot wait for a peer is a plain system call.

const system = @import("../linux.zig");
const plain = @import("../plain.zig");
const files = @import("files.zig");
const messages = @import("messages.zig");
const opens = @import("opens.zig");
const polls = @import("polls.zig");
const sockets = @import("sockets.zig");
const Epoll = @import("../epoll.zig").Epoll;
const Operation = @import("operation.zig").Operation;
const errno = system.errno;

pub const Outcome = union(enum) {
    /// The result of the last CQE.
    done: i32,
    /// The same, in a provided buffer.
    done_into: Filled,
    /// Again when the descriptor, or that which a splice reads from, has one of these events.
    ready: u32,
    source_ready: u32,
    /// Again after so many nanoseconds: nothing tells when.
    later: u64,
};

/// A provided buffer with so many bytes in it.
pub const Filled = struct {
    id: u16,
    len: i32,

    pub fn flags(filled: Filled) u32 {
        return system.cqe_flag.buffer | @as(u32, filled.id) << system.cqe_flag.buffer_shift;
    }
};

/// Memory that an entry names. Nothing lies at 1 either: the system call says so (EFAULT).
pub fn bytes_at(address: u64) [*]u8 {
    return @ptrFromInt(@max(address, 1));
}

pub fn attempt(kernel: *Epoll, operation: *Operation) Outcome {
    const sqe = &operation.sqe;
    // There is no table of files: whoever works above this kernel names descriptors.
    if (sqe.flags & system.sqe_flag.fixed_file != 0) return .{ .done = errno.badf };
    return switch (sqe.opcode) {
        .RECV => messages.receive(kernel, operation),
        .SEND, .SEND_ZC => messages.send(operation),
        .SENDMSG, .SENDMSG_ZC => messages.send_message(operation),
        .RECVMSG => messages.receive_message(kernel, operation),
        .ACCEPT => sockets.accept(kernel, operation),
        .CONNECT => sockets.connect(kernel, operation),
        .POLL_ADD => polls.poll(kernel, operation),
        .READ, .READV, .READ_FIXED => files.read(kernel, operation),
        .WRITE, .WRITEV, .WRITE_FIXED => files.write(kernel, operation),
        .SPLICE => files.splice(operation),
        .OPENAT => opens.open(operation),
        .CLOSE => close: {
            kernel.disown(sqe.fd);
            break :close .{ .done = plain.perform(sqe) };
        },
        else => .{ .done = plain.perform(sqe) },
    };
}

pub fn is_known(opcode: system.Op) bool {
    return switch (opcode) {
        .NOP, .RECV, .SEND, .SEND_ZC, .SENDMSG, .SENDMSG_ZC, .RECVMSG, .ACCEPT, .CONNECT => true,
        .POLL_ADD, .POLL_REMOVE, .TIMEOUT, .TIMEOUT_REMOVE, .LINK_TIMEOUT, .ASYNC_CANCEL => true,
        .READ, .READV, .READ_FIXED, .WRITE, .WRITEV, .WRITE_FIXED, .SPLICE, .CLOSE => true,
        else => plain.is_known(opcode),
    };
}

/// The bytes that it must move for its chain to go on; null if any number does.
pub fn whole(sqe: *const system.Sqe) ?usize {
    return switch (sqe.opcode) {
        .READ, .WRITE, .READ_FIXED, .WRITE_FIXED, .SPLICE => sqe.len,
        .READV, .WRITEV => messages.length_of(files.parts_of(sqe)),
        .SEND, .SEND_ZC, .RECV => if (messages.is_whole(sqe)) sqe.len else null,
        .SENDMSG, .SENDMSG_ZC, .RECVMSG => if (messages.is_whole(sqe))
            messages.length_of(messages.parts_of(sqe))
        else
            null,
        else => null,
    };
}
