//! Operations of datagram sockets: how each is asked for, and to whom its CQE goes.
//!
//! `prepare` knows the SQE's fields; what a result means is decided in `datagram.zig` and
//! `datagram_queue.zig`. Man pages: recvmsg(2), sendmsg(2), io_uring_enter(2).

const kernel = @import("../kernel.zig");
const slots = @import("../slots.zig");
const mutation = @import("../testing/mutation.zig");
const Engine = @import("../engine.zig").Engine;
const UserData = slots.UserData;
const Cqe = kernel.Cqe;
const Sqe = kernel.Sqe;
const flag = kernel.socket_flag;

/// recvmsg(2), multishot into provided buffers: each CQE is a datagram behind a `ReceivedMessage`.
/// The header says how much room names and control data get; it must stand until the last CQE.
pub const Receive = struct {
    pub fn prepare(
        sqe: *Sqe,
        fd: i32,
        header: *const kernel.MessageHeader,
        user_data: UserData,
    ) void {
        prepare_once(sqe, fd, header, user_data);
        sqe.flags |= kernel.sqe_flag.buffer_select;
        sqe.buf_index = @intFromEnum(kernel.BufferGroup.datagram);
        sqe.ioprio = kernel.sqe_flag.receive_multishot;
    }

    /// One datagram into the memory that the header names.
    pub fn prepare_once(
        sqe: *Sqe,
        fd: i32,
        header: *const kernel.MessageHeader,
        user_data: UserData,
    ) void {
        sqe.opcode = .RECVMSG;
        sqe.fd = fd;
        sqe.addr = @intFromPtr(header);
        sqe.len = 1; // one header
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const socket = engine.datagrams.find(user_data) orelse
            return engine.datagrams.stale(engine, cqe);
        socket.on_receive(engine, user_data.slot, cqe);
    }
};

/// sendmsg(2) of one datagram, or of several of one size with UDP_SEGMENT: all of it, or -EAGAIN.
/// It must not wait in the kernel (Linux 6.18): what was copied before it found no room is not
/// copied again when there is some, and an empty datagram leaves.
pub const Send = struct {
    pub fn prepare(
        sqe: *Sqe,
        fd: i32,
        header: *const kernel.MessageHeader,
        user_data: UserData,
    ) void {
        sqe.opcode = .SENDMSG;
        sqe.fd = fd;
        sqe.addr = @intFromPtr(header);
        sqe.len = 1; // one header
        sqe.rw_flags = flag.no_signal;
        if (!mutation.is(.wait_for_room)) sqe.rw_flags |= flag.dont_wait;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        engine.datagrams.on_send(engine, user_data, cqe);
    }
};

/// What comes before another try to send: room, or a little time.
pub const Wait = struct {
    const pause: kernel.Timespec = .{ .sec = 0, .nsec = 1_000_000 };

    /// poll(2): there is room in the socket, and where it is connected in the peer's queue, too.
    pub fn prepare(sqe: *Sqe, fd: i32, user_data: UserData) void {
        sqe.opcode = .POLL_ADD;
        sqe.fd = fd;
        sqe.rw_flags = kernel.sqe_flag.poll_out;
        sqe.user_data = @bitCast(user_data);
    }

    /// A Unix socket that is not connected cannot be told of room in somebody's queue.
    pub fn prepare_pause(sqe: *Sqe, user_data: UserData) void {
        sqe.opcode = .TIMEOUT;
        sqe.fd = -1;
        sqe.addr = @intFromPtr(&pause);
        sqe.len = 1; // one timespec
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const socket = engine.datagrams.find(user_data) orelse
            return engine.datagrams.stale(engine, cqe);
        socket.outgoing.room = .unknown;
        engine.datagrams.mark(user_data.slot);
    }
};

/// ASYNC_CANCEL of everything on a descriptor, before it is closed (K5, K14).
pub const Cancel = struct {
    pub fn prepare(sqe: *Sqe, fd: i32, user_data: UserData) void {
        sqe.opcode = .ASYNC_CANCEL;
        sqe.fd = fd;
        sqe.rw_flags = kernel.sqe_flag.cancel_fd | kernel.sqe_flag.cancel_all;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const socket = engine.datagrams.find(user_data) orelse
            return engine.datagrams.stale(engine, cqe);
        socket.on_cancel_done(engine, user_data.slot);
    }
};

/// close(2): with this CQE the descriptor's number is free.
pub const Close = struct {
    pub const prepare = @import("connection.zig").Close.prepare;

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const socket = engine.datagrams.find(user_data) orelse
            return engine.datagrams.stale(engine, cqe);
        socket.on_closed(engine, user_data.slot);
    }
};
