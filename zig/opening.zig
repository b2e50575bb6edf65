//! How listeners and connections come to be: sockets that are made, bound and claimed a slot for.
//!
//! Every call either gives a slot's index, its generation in `Control.generation`, or a negative
//! errno after which nothing is left of it; a descriptor from elsewhere is the caller's still then.
//! Accepting and connecting themselves start at the next flush. Called by `exports.zig` and by the
//! schedules of the tests.

const abi = @import("abi.zig");
const seam = @import("kernel.zig");
const mailbox = @import("mailbox.zig");
const Engine = @import("engine.zig").Engine;
const errno = seam.errno;

fn flag(flags: u32, comptime bit: anytype) bool {
    return flags >> @intFromEnum(bit) & 1 != 0;
}

// Listeners ------------------------------------------------------------------------------------

pub fn listener_open(
    engine: *Engine,
    address: *const abi.Address,
    backlog: u32,
    flags: u32,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const target = seam.SocketAddress.from_boundary(address) orelse return errno.inval;
    const fd = engine.kernel.socket(&target);
    if (fd < 0) return fd;
    const bound = bind_with(engine, fd, &target, flags);
    const outcome = if (bound < 0) bound else engine.kernel.listen(fd, backlog);
    if (outcome < 0) {
        engine.kernel.close_fd(fd);
        return outcome;
    }
    const index = engine.listeners.claim() orelse {
        engine.kernel.close_fd(fd);
        return errno.nomem;
    };
    engine.kernel.own(fd);
    engine.listeners.at(index).* = .{ .fd = fd };
    engine.control.generation = engine.listeners.generation(index);
    engine.mark_listener(index);
    return @intCast(index);
}

fn bind_with(engine: *Engine, fd: i32, target: *const seam.SocketAddress, flags: u32) i32 {
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
    return kernel.bind(fd, target);
}

fn failed(outcome: i32) ?i32 {
    return if (outcome < 0) outcome else null;
}

/// A socket with an address that is no listener's: it listens if `backlog` is above 0. Its
/// descriptor, which is the caller's; `address` becomes what was bound.
pub fn socket_bind(engine: *Engine, address: *abi.Address, backlog: u32, flags: u32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const target = seam.SocketAddress.from_boundary(address) orelse return errno.inval;
    const fd = engine.kernel.socket(&target);
    if (fd < 0) return fd;
    const outcome = settle(engine, fd, &target, address, backlog, flags);
    if (outcome >= 0) return fd;
    engine.kernel.close_fd(fd);
    return outcome;
}

fn settle(
    engine: *Engine,
    fd: i32,
    target: *const seam.SocketAddress,
    address: *abi.Address,
    backlog: u32,
    flags: u32,
) i32 {
    const kernel = &engine.kernel;
    if (failed(bind_with(engine, fd, target, flags))) |code| return code;
    if (backlog > 0) {
        if (failed(kernel.listen(fd, backlog))) |code| return code;
    } else if (!target.is_unix()) {
        // It holds the port: for those who share it (SO_REUSEPORT), and nobody else. socket(7)
        if (failed(kernel.set_option(fd, .reuse_address, 0))) |code| return code;
    }
    return name_of(engine, fd, address);
}

/// What a descriptor of anybody's is bound to.
pub fn name_of(engine: *Engine, fd: i32, out: *abi.Address) i32 {
    var address: seam.SocketAddress = undefined;
    if (failed(engine.kernel.address(fd, .local, &address))) |code| return code;
    address.print(out);
    return 0;
}

/// A socket from elsewhere: it listens, or is bound, or is given a port by listen(2).
pub fn listener_adopt(engine: *Engine, fd: i32, backlog: u32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (failed(check_stranger(engine, fd))) |code| return code;
    if (failed(engine.kernel.listen(fd, backlog))) |code| return code;
    if (failed(engine.kernel.adopt(fd))) |code| return code;
    const index = engine.listeners.claim() orelse return errno.nomem;
    engine.kernel.own(fd);
    engine.listeners.at(index).* = .{ .fd = fd };
    engine.control.generation = engine.listeners.generation(index);
    engine.mark_listener(index);
    return @intCast(index);
}

/// Two owners of one descriptor would close each other's connections.
fn check_stranger(engine: *Engine, fd: i32) i32 {
    if (fd < 0) return errno.badf;
    for (0..engine.connections.fresh) |at| {
        const slot: u32 = @intCast(at);
        if (engine.connections.is_claimed(slot) and engine.connections.at(slot).fd == fd) {
            return errno.exist;
        }
    }
    for (0..engine.listeners.fresh) |at| {
        const slot: u32 = @intCast(at);
        if (engine.listeners.is_claimed(slot) and engine.listeners.at(slot).fd == fd) {
            return errno.exist;
        }
    }
    return 0;
}

// Connections ----------------------------------------------------------------------------------

/// `local`: where from, if that matters. `timeout_ms`: 0 is as long as the kernel tries.
pub fn connect(
    engine: *Engine,
    address: *const abi.Address,
    local: ?*const abi.Address,
    flags: u32,
    timeout_ms: u32,
) i32 {
    if (engine.fatal != 0) return engine.fatal;
    const target = seam.SocketAddress.from_boundary(address) orelse return errno.inval;
    const fd = engine.kernel.socket(&target);
    if (fd < 0) return fd;
    const outcome = connect_prepare(engine, fd, &target, local, flags);
    const claimed = if (outcome < 0) outcome else begin_connection(engine, fd, timeout_ms);
    if (claimed < 0) {
        engine.kernel.close_fd(fd);
        return claimed;
    }
    engine.connections.at(@intCast(claimed)).address = target;
    return claimed;
}

fn connect_prepare(
    engine: *Engine,
    fd: i32,
    target: *const seam.SocketAddress,
    local: ?*const abi.Address,
    flags: u32,
) i32 {
    const kernel = &engine.kernel;
    if (!target.is_unix() and !flag(flags, abi.ConnectFlag.delay)) {
        // Refused only if the socket is not TCP; then there is nothing to delay.
        _ = kernel.set_option(fd, .no_delay, 1);
    }
    if (target.is_ipv6() and flag(flags, abi.ConnectFlag.ipv6_only)) {
        if (failed(kernel.set_option(fd, .ipv6_only, 1))) |code| return code;
    }
    const given = local orelse return 0;
    const source = seam.SocketAddress.from_boundary(given) orelse return errno.inval;
    if (flag(flags, abi.ConnectFlag.reuse_port)) {
        if (failed(kernel.set_option(fd, .reuse_port, 1))) |code| return code;
    }
    if (failed(kernel.set_option(fd, .reuse_address, 1))) |code| return code;
    return kernel.bind(fd, &source);
}

fn begin_connection(engine: *Engine, fd: i32, timeout_ms: u32) i32 {
    const index = engine.connections.claim() orelse return errno.nomem;
    engine.kernel.own(fd);
    engine.connections.at(index).* = .{
        .fd = fd,
        .listener = abi.no_listener,
        .stage = .connecting,
    };
    if (timeout_ms > 0) engine.deadlines.set(engine, index, timeout_ms);
    engine.control.generation = engine.connections.generation(index);
    engine.mark(index);
    return @intCast(index);
}

/// A connected stream socket from elsewhere: the ring's own from here on.
pub fn connection_adopt(engine: *Engine, fd: i32) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (failed(check_stranger(engine, fd))) |code| return code;
    var peer: seam.SocketAddress = undefined;
    if (failed(engine.kernel.address(fd, .remote, &peer))) |code| return code;
    // Last, since it changes the descriptor.
    if (failed(engine.kernel.adopt(fd))) |code| return code;
    const index = begin_connection(engine, fd, 0);
    if (index >= 0) engine.connections.at(@intCast(index)).adopted = true;
    return index;
}

/// The same for a descriptor that another thread hands over, and is told of it by a post. Both are
/// one call: a thread that is terminated has taken it and said so, or neither. Refused before the
/// post it is the other's still; what cannot be adopted after it is closed.
pub fn connection_take(engine: *Engine, fd: i32, token: u32, key: u32, data: f64) i32 {
    if (engine.fatal != 0) return engine.fatal;
    if (engine.connections.is_full()) return errno.nomem;
    if (failed(mailbox.post_number(token, key, data))) |code| return code;
    const index = connection_adopt(engine, fd);
    if (index < 0) engine.kernel.close_fd(fd);
    return index;
}
