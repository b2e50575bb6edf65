//! What JavaScript asks of a ring: arguments are checked, handles are resolved, state is changed.
//!
//! Nothing here trusts its caller: a wrong index, enum, length or number is a negative errno and
//! changes nothing. A stale handle is ENOENT. Submission itself happens at the next flush, in
//! `Connection.advance` and its like. Called by `exports.zig` and by the schedules of the tests.

const std = @import("std");
const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const Engine = @import("engine.zig").Engine;
const Operation = @import("engine.zig").Operation;
const Connection = @import("connection.zig").Connection;
const Kind = @import("operation.zig").Kind;
const errno = seam.errno;

fn flag(flags: u32, comptime bit: anytype) bool {
    return flags >> @intFromEnum(bit) & 1 != 0;
}

/// An enum value from outside, or null if the number is none of its own.
fn known(comptime Enum: type, value: u32) ?Enum {
    return std.enums.fromInt(Enum, value);
}

fn parse(address: *const abi.Address) ?seam.SocketAddress {
    // Read as a number first: JavaScript may have written anything.
    const family: *const u32 = @ptrCast(&address.family);
    if (known(abi.Family, family.*) == null) return null;
    return seam.SocketAddress.parse(address) catch null;
}

// Listeners ------------------------------------------------------------------------------------

pub fn listener_open(
    engine: *Engine,
    address: *const abi.Address,
    backlog: u32,
    flags: u32,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const target = parse(address) orelse return errno.inval;
    const fd = engine.kernel.socket(&target);
    if (fd < 0) return fd;
    const outcome = listener_bind(engine, fd, &target, backlog, flags);
    if (outcome < 0) {
        engine.kernel.close_fd(fd);
        return outcome;
    }
    const index = engine.listeners.claim() orelse {
        engine.kernel.close_fd(fd);
        return errno.nomem;
    };
    engine.listeners.at(index).* = .{ .fd = fd };
    engine.control.generation = engine.listeners.generation(index);
    engine.mark_listener(index);
    return @intCast(index);
}

fn listener_bind(
    engine: *Engine,
    fd: i32,
    target: *const seam.SocketAddress,
    backlog: u32,
    flags: u32,
) i32 {
    const kernel = &engine.kernel;
    if (!target.is_unix()) {
        // As every server does: a port in TIME_WAIT can be bound again.
        if (failed(kernel.set_option(fd, .reuse_address, 1))) |code| return code;
        if (flag(flags, abi.ListenFlag.reuse_port)) {
            if (failed(kernel.set_option(fd, .reuse_port, 1))) |code| return code;
        }
        if (target.is_ipv6()) {
            const only = @intFromBool(flag(flags, abi.ListenFlag.ipv6_only));
            if (failed(kernel.set_option(fd, .ipv6_only, only))) |code| return code;
        }
        // Accepted sockets inherit it: no system call for each of them.
        if (!flag(flags, abi.ListenFlag.delay)) {
            if (failed(kernel.set_option(fd, .no_delay, 1))) |code| return code;
        }
    }
    if (failed(kernel.bind(fd, target))) |code| return code;
    return kernel.listen(fd, backlog);
}

fn failed(outcome: i32) ?i32 {
    return if (outcome < 0) outcome else null;
}

pub fn listener_address(engine: *Engine, index: u32, generation: u32, out: *abi.Address) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    return address_of(engine, listener.fd, .local, out);
}

pub fn listener_stop(engine: *Engine, index: u32, generation: u32) i32 {
    const listener = engine.listeners.find(index, generation) orelse return errno.noent;
    listener.stop(engine, index);
    return 0;
}

// Connections ----------------------------------------------------------------------------------

pub fn connect(engine: *Engine, address: *const abi.Address, flags: u32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const target = parse(address) orelse return errno.inval;
    const fd = engine.kernel.socket(&target);
    if (fd < 0) return fd;
    if (!target.is_unix() and !flag(flags, abi.ConnectFlag.delay)) {
        // Refused only if the socket is not TCP; then there is nothing to delay.
        _ = engine.kernel.set_option(fd, .no_delay, 1);
    }
    const index = engine.connections.claim() orelse {
        engine.kernel.close_fd(fd);
        return errno.nomem;
    };
    engine.connections.at(index).* = .{
        .fd = fd,
        .listener = abi.no_listener,
        .stage = .connecting,
        .address = target,
    };
    engine.control.generation = engine.connections.generation(index);
    engine.mark(index);
    return @intCast(index);
}

pub fn connection_write(
    engine: *Engine,
    index: u32,
    generation: u32,
    bytes: ?[*]const u8,
    len: u32,
) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    if (len == 0) return 0;
    const source = bytes orelse return errno.inval;
    // The answer is an i32; what does not fit in it is taken by a later call.
    const offered = @min(len, std.math.maxInt(i32));
    return connection.write(engine, index, source[0..offered]);
}

pub fn connection_shut(engine: *Engine, index: u32, generation: u32, how: u32) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    const asked = known(abi.Shut, how) orelse return errno.inval;
    connection.shut_down(engine, index, asked);
    return 0;
}

pub fn connection_pause(engine: *Engine, index: u32, generation: u32, paused: u32) i32 {
    const connection = engine.connections.find(index, generation) orelse return errno.noent;
    connection.pause(engine, index, paused != 0);
    return 0;
}

pub fn connection_option(
    engine: *Engine,
    index: u32,
    generation: u32,
    option: u32,
    value: u32,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    const asked = known(abi.SocketOption, option) orelse return errno.inval;
    return engine.kernel.set_option(connection.fd, switch (asked) {
        .no_delay => .no_delay,
        .keep_alive => .keep_alive,
    }, value);
}

pub fn connection_address(
    engine: *Engine,
    index: u32,
    generation: u32,
    end: u32,
    out: *abi.Address,
) i32 {
    const connection = find_open(engine, index, generation) orelse return errno.noent;
    const asked = known(abi.End, end) orelse return errno.inval;
    return address_of(engine, connection.fd, switch (asked) {
        .local => .local,
        .remote => .remote,
    }, out);
}

/// A connection whose descriptor is still its own: after CLOSE the number may be another's.
fn find_open(engine: *Engine, index: u32, generation: u32) ?*Connection {
    const connection = engine.connections.find(index, generation) orelse return null;
    return if (connection.stage == .closing) null else connection;
}

fn address_of(engine: *Engine, fd: i32, end: seam.End, out: *abi.Address) i32 {
    var address: seam.SocketAddress = undefined;
    const outcome = engine.kernel.address(fd, end, &address);
    if (outcome < 0) return outcome;
    address.print(out);
    return 0;
}

// Operations on the ring -----------------------------------------------------------------------

pub fn nop(engine: *Engine) i32 {
    return start(engine, .{ .kind = .nop });
}

pub fn timeout(engine: *Engine, milliseconds: f64) i32 {
    // NaN fails both comparisons; 2^31 s is beyond any use and within a timespec.
    if (!(milliseconds >= 0 and milliseconds <= 2_147_483_648_000)) return errno.inval;
    const nanoseconds: u64 = @intFromFloat(milliseconds * std.time.ns_per_ms);
    return start(engine, .{ .kind = .timeout, .duration = .{
        .sec = @intCast(nanoseconds / std.time.ns_per_s),
        .nsec = @intCast(nanoseconds % std.time.ns_per_s),
    } });
}

fn start(engine: *Engine, operation: Operation) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const index = engine.operations.claim() orelse return errno.nomem;
    engine.operations.at(index).* = operation;
    engine.control.generation = engine.operations.generation(index);
    engine.dirty_operations.push(&engine.operations, index);
    return @intCast(index);
}

pub fn cancel(engine: *Engine, index: u32, generation: u32) i32 {
    const operation = engine.operations.find(index, generation) orelse return errno.noent;
    if (operation.cancelled) return errno.already;
    operation.cancelled = true;
    engine.dirty_operations.push(&engine.operations, index);
    return 0;
}

// The slab and counters -------------------------------------------------------------------------

/// `target` must have room for `len` bytes: the caller has just allocated it.
pub fn slab_read(engine: *Engine, offset: u32, target: ?[*]u8, len: u32) i32 {
    if (@as(u64, offset) + len > engine.slab.len) return errno.inval;
    const bytes = target orelse return errno.inval;
    @memcpy(bytes[0..len], engine.slab[offset..][0..len]);
    return 0;
}

pub fn read_stats(engine: *Engine, out: *abi.Stats) i32 {
    const counters = &engine.counters;
    inline for (@typeInfo(@TypeOf(counters.*)).@"struct".fields) |field| {
        @field(out, field.name) = @floatFromInt(@field(counters, field.name));
    }
    out.cqes_overflowed = @floatFromInt(engine.kernel.overflowed());
    out.staging_blocks_used = @floatFromInt(engine.staging_pool.used);
    out.receive_buffers_free = @floatFromInt(engine.buffers.available());
    return 0;
}
