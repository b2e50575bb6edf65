//! Socket operations that a user starts on a descriptor of his own.
//!
//! Like `file.zig`: `prepare` takes its fields from `Arguments`, the result is the call's own. The
//! operations of connections and listeners stand in `connection.zig`.

const kernel = @import("../kernel.zig");
const Operation = @import("../operation.zig").Operation;
const Sqe = kernel.Sqe;

/// socket(2): fd as the domain, mode as the type, flags as the protocol.
pub const Socket = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SOCKET;
        sqe.fd = operation.arguments.fd;
        sqe.off = operation.arguments.mode | kernel.socket_flag.cloexec;
        sqe.len = operation.arguments.flags;
    }
};

/// bind(2): fd; `input` is an `Address`.
pub const Bind = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .BIND;
        named(sqe, operation);
    }
};

/// connect(2): fd; `input` is an `Address`.
pub const Connect = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .CONNECT;
        named(sqe, operation);
    }
};

fn named(sqe: *Sqe, operation: *Operation) void {
    const address = operation.socket_address();
    sqe.fd = operation.arguments.fd;
    sqe.addr = @intFromPtr(&address.bytes);
    sqe.off = address.len;
}

/// listen(2): fd, length as the backlog.
pub const Listen = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .LISTEN;
        sqe.fd = operation.arguments.fd;
        sqe.len = operation.arguments.length;
    }
};

/// accept4(2): fd; the peer's address is kept for `bu_operation_address`.
pub const Accept = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        const address = operation.socket_address();
        address.len = address.bytes.len;
        sqe.opcode = .ACCEPT;
        sqe.fd = operation.arguments.fd;
        sqe.addr = @intFromPtr(&address.bytes);
        sqe.off = @intFromPtr(&address.len);
        sqe.rw_flags = operation.arguments.flags | kernel.socket_flag.cloexec;
    }
};

/// send(2): fd, flags; bytes of `input`. MSG_NOSIGNAL always.
pub const Send = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SEND;
        moved(sqe, operation);
        sqe.rw_flags |= kernel.socket_flag.no_signal;
    }
};

/// recv(2): fd, length, flags; bytes into `output`.
pub const Recv = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .RECV;
        moved(sqe, operation);
    }
};

fn moved(sqe: *Sqe, operation: *Operation) void {
    sqe.fd = operation.arguments.fd;
    sqe.addr = operation.data_address();
    sqe.len = operation.arguments.length;
    sqe.rw_flags = operation.arguments.flags;
}

/// sendmsg(2): fd, flags; `input` holds the vectors, with `addressed` behind the destination.
pub const Sendmsg = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SENDMSG;
        message(sqe, operation);
        sqe.rw_flags |= kernel.socket_flag.no_signal;
    }
};

/// recvmsg(2): fd, flags; the sender's address is kept for `bu_operation_address`, descriptors for
/// `bu_operation_descriptors`.
pub const Recvmsg = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .RECVMSG;
        message(sqe, operation);
        sqe.rw_flags |= kernel.socket_flag.cmsg_cloexec;
    }
};

fn message(sqe: *Sqe, operation: *Operation) void {
    const header = operation.message_header();
    sqe.fd = operation.arguments.fd;
    sqe.addr = @intFromPtr(header);
    sqe.len = 1; // one header
    sqe.rw_flags = operation.arguments.flags;
}

/// shutdown(2): fd, flags as how.
pub const Shutdown = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .SHUTDOWN;
        sqe.fd = operation.arguments.fd;
        sqe.len = operation.arguments.flags;
    }
};

/// poll(2): fd, mode as the events; with `multishot` a completion for each change.
pub const Poll = struct {
    pub fn prepare(sqe: *Sqe, operation: *Operation) void {
        sqe.opcode = .POLL_ADD;
        sqe.fd = operation.arguments.fd;
        sqe.rw_flags = operation.arguments.mode;
        if (operation.option(.multishot)) sqe.len = kernel.sqe_flag.poll_multishot;
    }
};
