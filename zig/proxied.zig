//! Connections behind a proxy: nobody hears of one before its PROXY header has come.
//!
//! A listener that was told so lets each accepted connection wait here. The header may come in any
//! pieces; what follows it is data. A connection whose first bytes are something else, or whose
//! header is malformed, incomplete or late, is reset and counted, and JavaScript never knows of it.
//! What the header says is kept beside the slots, in memory that is mapped with the first such
//! listener. Called by `listen.zig`, `receiving.zig`, `connection.zig` and `opening.zig`.

const std = @import("std");
const assert = std.debug.assert;
const memory = @import("memory.zig");
const seam = @import("kernel.zig");
const proxy_protocol = @import("proxy_protocol.zig");
const Connection = @import("connection.zig").Connection;
const Engine = @import("engine.zig").Engine;
const Listener = @import("listen.zig").Listener;
const errno = seam.errno;

/// off, or: awaited ──header──▶ spoken
pub const Stage = enum(u8) { off, awaited, spoken };

/// Why a connection was refused; counted under these names in `abi.Stats`.
const Refusal = enum { proxy_incomplete, proxy_absent, proxy_malformed, proxy_late, none };

const Entry = struct {
    held: [proxy_protocol.decisive_max]u8,
    held_len: u16,
    /// The addresses are known, and so many bytes of the header are still to come.
    skip: u32,
    decided: bool,
    refusal: Refusal,
    addresses: ?proxy_protocol.Addresses,
};

/// By connection.
pub const Entries = struct {
    entries: []Entry = &.{},
    mapping: ?memory.Mapping = null,

    pub fn prepare(table: *Entries, engine: *Engine) error{OutOfMemory}!void {
        if (table.mapping != null) return;
        const count = engine.config.connections;
        const mapping = try memory.map(count * @sizeOf(Entry));
        var bump: memory.Bump = .{ .memory = mapping };
        table.entries = bump.take(Entry, count);
        table.mapping = mapping;
    }

    pub fn deinit(table: *Entries) void {
        if (table.mapping) |mapping| memory.unmap(mapping);
    }
};

/// A connection was accepted whose header is to come within the listener's time.
pub fn begin(connection: *Connection, engine: *Engine, index: u32, listener: *Listener) void {
    connection.proxy = .awaited;
    listener.awaiting += 1;
    const entry = &engine.proxied.entries[index];
    // Not the bytes: they are written before they are read.
    entry.held_len = 0;
    entry.skip = 0;
    entry.decided = false;
    entry.refusal = .proxy_incomplete; // until something else is known
    entry.addresses = null;
    engine.deadlines.set(engine, index, listener.proxy_timeout_ms);
}

/// How many of the bytes belong to the header, once it is complete; null while it is not, or if the
/// connection is refused.
pub fn on_data(
    connection: *Connection,
    engine: *Engine,
    index: u32,
    bytes: []const u8,
) ?u32 {
    assert(connection.proxy == .awaited);
    const entry = &engine.proxied.entries[index];
    if (!entry.decided) {
        const before = entry.held_len;
        const taken: u16 = @intCast(@min(bytes.len, entry.held.len - before));
        @memcpy(entry.held[before..][0..taken], bytes[0..taken]);
        entry.held_len += taken;
        switch (proxy_protocol.parse(entry.held[0..entry.held_len])) {
            .incomplete => {
                assert(taken == bytes.len); // so many bytes decide
                return null;
            },
            .absent => return refuse(connection, engine, index, .proxy_absent),
            .malformed => return refuse(connection, engine, index, .proxy_malformed),
            .header => |header| {
                entry.decided = true;
                entry.addresses = header.addresses;
                entry.skip = header.len - before;
            },
        }
    }
    const own: u32 = @intCast(@min(entry.skip, bytes.len));
    entry.skip -= own;
    if (entry.skip > 0) return null;
    admit(connection, engine, index);
    return own;
}

/// From here on it is a connection like any other.
fn admit(connection: *Connection, engine: *Engine, index: u32) void {
    const listener = engine.listeners.at(connection.listener);
    assert(!listener.stopped); // it dropped those that it still had
    connection.proxy = .spoken;
    leave(engine, listener, connection.listener);
    engine.deadlines.set(engine, index, 0);
    connection.announce(engine, index);
}

/// FIN before the header was complete.
pub fn on_end(connection: *Connection, engine: *Engine, index: u32) void {
    _ = refuse(connection, engine, index, .proxy_incomplete);
}

/// The time for the header has passed.
pub fn on_deadline(connection: *Connection, engine: *Engine, index: u32) void {
    _ = refuse(connection, engine, index, .proxy_late);
}

/// Reset, so that the proxy does not take it for an answer.
fn refuse(connection: *Connection, engine: *Engine, index: u32, why: Refusal) ?u32 {
    engine.proxied.entries[index].refusal = why;
    engine.deadlines.set(engine, index, 0);
    connection.shut = .terminate;
    connection.fail(engine, index, errno.proto);
    return null;
}

/// A connection is gone whose header never came.
pub fn on_gone(connection: *Connection, engine: *Engine, index: u32) void {
    if (connection.proxy != .awaited) return;
    switch (engine.proxied.entries[index].refusal) {
        .none => {},
        inline else => |why| @field(engine.counters, @tagName(why)) += 1,
    }
    leave(engine, engine.listeners.at(connection.listener), connection.listener);
}

fn leave(engine: *Engine, listener: *Listener, index: u32) void {
    assert(listener.awaiting > 0);
    listener.awaiting -= 1;
    // One that was stopped closes after the last of them.
    engine.mark_listener(index);
}

/// The listener stops: nobody would hear of those that it still has.
pub fn drop_awaiting(engine: *Engine, listener_index: u32) void {
    for (0..engine.connections.fresh) |at| {
        const index: u32 = @intCast(at);
        if (!engine.connections.is_claimed(index)) continue;
        const connection = engine.connections.at(index);
        if (connection.proxy != .awaited or connection.listener != listener_index) continue;
        _ = refuse(connection, engine, index, .none);
    }
}

/// The address of an end as the header has it; null if it says nothing of it.
pub fn address_of(
    connection: *const Connection,
    engine: *const Engine,
    index: u32,
    end: seam.End,
) ?seam.SocketAddress {
    if (connection.proxy != .spoken) return null;
    const addresses = engine.proxied.entries[index].addresses orelse return null;
    return switch (end) {
        .remote => addresses.source,
        .local => addresses.destination,
    };
}
