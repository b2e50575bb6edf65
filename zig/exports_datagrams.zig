//! C symbols of datagram sockets: opened, sent on, closed, set, and what was received.
//!
//! Each is a guard and a call, as in `exports.zig`, whose table they are part of.

const abi = @import("abi.zig");
const datagram_calls = @import("datagram_calls.zig");
const rings = @import("rings.zig");

/// A datagram socket bound to `local`, connected to `remote` if there is one: its index, its
/// generation is in `Control.generation`.
pub export fn bu_datagram_open(
    ring: u32,
    local: ?*const abi.Address,
    remote: ?*const abi.Address,
    flags: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.open(engine, local, remote, flags);
}

/// 1 if the datagram was taken; 0 means that a `datagram_drain` record will follow. `address` is
/// null on a connected socket, and only there.
pub export fn bu_datagram_send(
    ring: u32,
    index: u32,
    generation: u32,
    bytes: ?[*]const u8,
    len: u32,
    address: ?*const abi.Address,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.send(engine, index, generation, bytes, len, address);
}

pub export fn bu_datagram_close(ring: u32, index: u32, generation: u32) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.close(engine, index, generation);
}

pub export fn bu_datagram_address(ring: u32, index: u32, generation: u32, out: *abi.Address) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.local_address(engine, index, generation, out);
}

pub export fn bu_datagram_option(
    ring: u32,
    index: u32,
    generation: u32,
    option: u32,
    value: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.set_option(engine, index, generation, option, value);
}

/// A `MembershipAction`; addresses are of the socket's own family.
pub export fn bu_datagram_membership(
    ring: u32,
    index: u32,
    generation: u32,
    action: u32,
    group: ?*const abi.Address,
    source: ?*const abi.Address,
    interface: ?*const abi.Address,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.membership(
        engine,
        index,
        generation,
        action,
        group,
        source,
        interface,
    );
}

/// Copies from the buffer of a `datagram` record of this turn.
pub export fn bu_datagram_read(
    ring: u32,
    buffer: u32,
    offset: u32,
    target: ?[*]u8,
    len: u32,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.read(engine, buffer, offset, target, len);
}

/// Who sent what lies in such a buffer.
pub export fn bu_datagram_sender(
    ring: u32,
    index: u32,
    generation: u32,
    buffer: u32,
    out: *abi.Address,
) i32 {
    const engine = rings.of(ring) catch |err| return rings.refuse(err);
    return datagram_calls.sender(engine, index, generation, buffer, out);
}
