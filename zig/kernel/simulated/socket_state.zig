//! What a simulated descriptor is: how far a stream socket has come, or which other thing; and what
//! the network keeps of it.
//!
//!     fresh ─bind─▶ bound ─listen─▶ listening
//!       └──────CONNECT──────▶ connecting ─▶ connected ─▶ dead

const std = @import("std");
const SocketAddress = @import("../address.zig").SocketAddress;

pub const SocketState = enum {
    fresh,
    bound,
    listening,
    connecting,
    connected,
    dead,
    // For all their lives:
    file,
    /// An eventfd.
    event,
    /// A datagram socket: `datagrams.zig`.
    mail,
    /// An end of a pipe between streams: `pipes.zig`.
    tube,
};

pub const none = std.math.maxInt(u32);
pub const backlog_max = 16;
pub const unset: SocketAddress = .{ .bytes = @splat(0), .len = 0 };

pub const Socket = struct {
    state: SocketState,
    /// The descriptor, if open, each pending operation, and `places`.
    references: u32,
    /// Places of registered files that hold it.
    places: u32 = 0,
    /// Of an open file: where the volume keeps it, and where the next read or write begins. Of a
    /// tube: its number.
    node: u32 = none,
    position: u64 = 0,
    /// Of an eventfd: how often it was written to; nobody reads it.
    rings: usize = 0,
    is_pipe: bool = false,
    peer: u32 = none,
    /// Reported by the next operation, once.
    failure: i32 = 0,
    shut_write: bool = false,
    /// What has arrived can be read, then the end.
    shut_receiving: bool = false,
    linger_reset: bool = false,
    non_blocking: bool = false,
    /// Others that say the same may have its address, too.
    shares_port: bool = false,
    local: SocketAddress = unset,
    remote: SocketAddress = unset,
    /// Peers that wait to be accepted, oldest first.
    waiting: [backlog_max]u32 = undefined,
    waiting_count: u32 = 0,
    backlog: u32 = 0,
};
