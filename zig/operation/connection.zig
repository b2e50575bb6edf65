//! Socket operations of listeners and connections: how each is asked for, and to whom its CQE goes.
//!
//! `prepare` knows the SQE's fields; what a result means is decided in `connection.zig` and
//! `listen.zig`. Reading one is reading all. Man pages: io_uring_enter(2) and the call's own.

const kernel = @import("../kernel.zig");
const BufferRing = @import("../buffer_ring.zig").BufferRing;
const Engine = @import("../engine.zig").Engine;
const UserData = @import("../slots.zig").UserData;
const Cqe = kernel.Cqe;
const Sqe = kernel.Sqe;
const flag = kernel.socket_flag;

/// What an operation names: the descriptor, or its place among the registered files.
pub const File = struct {
    number: i32,
    registered: bool = false,

    fn apply(file: File, sqe: *Sqe) void {
        sqe.fd = file.number;
        if (file.registered) sqe.flags |= kernel.sqe_flag.fixed_file;
    }
};

/// accept4(2), multishot where there: one CQE per connection until one comes without F_MORE.
pub const Accept = struct {
    pub fn prepare(sqe: *Sqe, fd: i32, multishot: bool, user_data: UserData) void {
        sqe.opcode = .ACCEPT;
        sqe.fd = fd;
        sqe.rw_flags = flag.cloexec;
        if (multishot) sqe.ioprio = kernel.sqe_flag.accept_multishot;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const listener = engine.listeners.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        listener.on_accept(engine, user_data.slot, cqe);
    }
};

/// connect(2): 0 or an errno. The address must stand until the CQE.
pub const Connect = struct {
    pub fn prepare(
        sqe: *Sqe,
        fd: i32,
        target: *const kernel.SocketAddress,
        user_data: UserData,
    ) void {
        sqe.opcode = .CONNECT;
        sqe.fd = fd;
        sqe.addr = @intFromPtr(&target.bytes);
        sqe.off = target.len;
        sqe.user_data = @bitCast(user_data);
    }

    /// Connected already: its `open` comes with a completion all the same.
    pub fn prepare_adopted(sqe: *Sqe, user_data: UserData) void {
        sqe.opcode = .NOP;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_connect(engine, user_data.slot, cqe.res);
    }
};

/// recv(2) into a provided buffer: bytes, 0 at the end of the stream, -ENOBUFS without a buffer.
/// Multishot where there: a CQE without F_MORE is the last one.
pub const Receive = struct {
    pub const Form = struct {
        group: kernel.BufferGroup = .stream,
        multishot: bool = false,
        /// A multishot ends by itself after so many bytes; 0 for none, or where it is unknown.
        limit: u32 = 0,
    };

    pub fn prepare(sqe: *Sqe, file: File, form: Form, user_data: UserData) void {
        sqe.opcode = .RECV;
        file.apply(sqe);
        sqe.flags |= kernel.sqe_flag.buffer_select;
        sqe.buf_index = @intFromEnum(form.group);
        if (form.multishot) {
            sqe.ioprio = kernel.sqe_flag.receive_multishot;
            sqe.splice_fd_in = @bitCast(form.limit); // where `optlen` lies
        }
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        finish(engine, user_data, &engine.buffers, cqe);
    }

    fn finish(engine: *Engine, user_data: UserData, ring: *BufferRing, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse {
            // Its buffer goes back (I3).
            const id = cqe.flags >> kernel.cqe_flag.buffer_shift;
            if (cqe.flags & kernel.cqe_flag.buffer != 0) _ = ring.deliver(id, .nobody);
            return engine.stale(cqe);
        };
        connection.on_receive(engine, user_data.slot, ring, cqe);
    }
};

/// recvmsg(2) of one message into a provided buffer. The header, and the control data that it
/// names, are written with the bytes.
pub const ReceiveMessage = struct {
    pub fn prepare(
        sqe: *Sqe,
        file: File,
        header: *kernel.MessageHeader,
        group: kernel.BufferGroup,
        user_data: UserData,
    ) void {
        sqe.opcode = .RECVMSG;
        file.apply(sqe);
        sqe.flags |= kernel.sqe_flag.buffer_select;
        sqe.buf_index = @intFromEnum(group);
        sqe.addr = @intFromPtr(header);
        sqe.len = 1; // one header
        sqe.rw_flags = flag.cmsg_cloexec;
        sqe.user_data = @bitCast(user_data);
    }
};

/// The same into a block: one completion each.
pub const ReceiveBlock = struct {
    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        Receive.finish(engine, user_data, &engine.blocks, cqe);
    }
};

/// poll(2) of a connection whose bytes go through a pipe: its events, as soon as there are any.
pub const ReceiveReady = struct {
    pub fn prepare(sqe: *Sqe, file: File, user_data: UserData) void {
        sqe.opcode = .POLL_ADD;
        file.apply(sqe);
        sqe.rw_flags = kernel.sqe_flag.poll_in;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_readable(engine, user_data.slot, cqe.res);
    }
};

/// ASYNC_CANCEL of a receive by its `user_data`: by fd it could hit the send (K14).
pub const ReceiveCancel = struct {
    pub fn prepare(sqe: *Sqe, target: UserData, user_data: UserData) void {
        sqe.opcode = .ASYNC_CANCEL;
        sqe.fd = -1;
        sqe.addr = @bitCast(target);
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_cancel_done(engine, user_data.slot);
    }
};

/// send(2) or sendmsg(2) of staged bytes: the bytes sent, which with MSG_WAITALL is all of them
/// unless the stream broke or the send was cancelled (K1, K2).
pub const Send = struct {
    pub fn prepare(sqe: *Sqe, file: File, bytes: []const u8, user_data: UserData) void {
        sqe.opcode = .SEND;
        file.apply(sqe);
        sqe.addr = @intFromPtr(bytes.ptr);
        sqe.len = @intCast(bytes.len);
        sqe.rw_flags = flag.wait_all | flag.no_signal;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn prepare_message(
        sqe: *Sqe,
        file: File,
        header: *const kernel.MessageHeader,
        user_data: UserData,
    ) void {
        sqe.opcode = .SENDMSG;
        file.apply(sqe);
        sqe.addr = @intFromPtr(header);
        sqe.len = 1; // one header
        sqe.rw_flags = flag.wait_all | flag.no_signal;
        sqe.user_data = @bitCast(user_data);
    }

    /// Sent from where it lies; a second CQE says when the memory is free, and whether it was
    /// copied all the same.
    pub fn make_zero_copy(sqe: *Sqe) void {
        sqe.opcode = if (sqe.opcode == .SEND) .SEND_ZC else .SENDMSG_ZC;
        sqe.ioprio |= kernel.sqe_flag.report_usage;
    }

    /// poll(2) in place of a send, until there is room for what lies in a pipe. Its events stand
    /// for no bytes.
    pub fn prepare_room(sqe: *Sqe, file: File, user_data: UserData) void {
        sqe.opcode = .POLL_ADD;
        file.apply(sqe);
        sqe.rw_flags = kernel.sqe_flag.poll_out;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_send(engine, user_data.slot, cqe.res);
    }
};

/// ASYNC_CANCEL of the send in flight by its `user_data`.
pub const SendCancel = struct {
    pub const prepare = ReceiveCancel.prepare;

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_send_cancelled(engine, user_data.slot, cqe.res);
    }
};

/// shutdown(2) of the writing side: the FIN.
pub const Shutdown = struct {
    pub fn prepare(sqe: *Sqe, fd: i32, user_data: UserData) void {
        sqe.opcode = .SHUTDOWN;
        sqe.fd = fd;
        sqe.len = flag.shut_write;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_shutdown(engine, user_data.slot, cqe.res);
    }
};

/// close(2): with this CQE the descriptor's number is free (K5).
pub const Close = struct {
    pub fn prepare(sqe: *Sqe, fd: i32, user_data: UserData) void {
        sqe.opcode = .CLOSE;
        sqe.fd = fd;
        sqe.user_data = @bitCast(user_data);
    }

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const connection = engine.connections.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        connection.on_closed(engine, user_data.slot);
    }
};

/// ASYNC_CANCEL of a connect by its `user_data`.
pub const ConnectCancel = struct {
    pub const prepare = ReceiveCancel.prepare;
    pub const complete = ReceiveCancel.complete;
};

/// ASYNC_CANCEL of a listener's accept by its `user_data`.
pub const ListenerCancel = struct {
    pub const prepare = ReceiveCancel.prepare;

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const listener = engine.listeners.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        listener.on_cancel_done(engine, user_data.slot);
    }
};

/// close(2) of a listening socket.
pub const ListenerClose = struct {
    pub const prepare = Close.prepare;

    pub fn complete(engine: *Engine, user_data: UserData, cqe: *const Cqe) void {
        const listener = engine.listeners.find(user_data.slot, user_data.generation) orelse
            return engine.stale(cqe);
        listener.on_closed(engine, user_data.slot);
    }
};
