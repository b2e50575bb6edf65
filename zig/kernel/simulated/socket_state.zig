//! What a simulated descriptor is: how far a stream socket has come, or which other thing.
//!
//!     fresh ─bind─▶ bound ─listen─▶ listening
//!       └──────CONNECT──────▶ connecting ─▶ connected ─▶ dead

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
};
