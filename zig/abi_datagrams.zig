//! What crosses of datagram sockets: flags and options; a part of `abi.zig`, with its rules.
//!
//! The records are there; `datagram` records use the flags here.

/// Bits of the second byte of a `datagram` record's `extra`.
pub const DatagramFlag = enum(u32) {
    /// It was larger than what there was room for: its end is lost.
    truncated = 0,
    /// `data` is the sender's address and port.
    ipv4 = 1,
    /// The sender's address is an IPv6 one.
    ipv6 = 2,
};

/// Bits of `bu_datagram_open`'s flags.
pub const DatagramOpenFlag = enum(u32) {
    reuse_port = 0,
    reuse_address = 1,
    ipv6_only = 2,
};

/// Socket options that `bu_datagram_option` sets, for the socket's own family.
pub const DatagramOption = enum(u32) {
    /// SO_BROADCAST: 0 or 1.
    broadcast = 0,
    /// IP_TTL, IPV6_UNICAST_HOPS.
    ttl = 1,
    /// IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS.
    multicast_ttl = 2,
    /// IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP: 0 or 1.
    multicast_loopback = 3,
    /// SO_RCVBUF, SO_SNDBUF, in bytes; the kernel doubles them and has limits of its own.
    receive_buffer = 4,
    send_buffer = 5,
};

/// What `bu_datagram_membership` does with a multicast group.
pub const MembershipAction = enum(u32) {
    join = 0,
    leave = 1,
    /// Only what `source` sends.
    join_source = 2,
    leave_source = 3,
    /// What is sent to groups leaves by `interface`: IP_MULTICAST_IF, IPV6_MULTICAST_IF.
    send_by = 4,
};
