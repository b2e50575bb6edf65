//! Sockets that are nobody's yet, and connections that another thread hands over, on the simulated
//! kernel: whose descriptor is whose, also when the call is refused.

const std = @import("std");
const abi = @import("../abi.zig");
const opening = @import("../opening.zig");
const seam = @import("../kernel.zig");
const Scene = @import("scene.zig").Scene;
const expect = std.testing.expect;
const expectEqual = std.testing.expectEqual;
const errno = seam.errno;

test "a bound socket is the caller's, has a port, and listens only if it is to" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const network = &scene.kernel.network;
    const before = network.open_descriptors();
    for ([_]u32{ 0, 8 }) |backlog| {
        var address = Scene.local(0);
        const fd = opening.socket_bind(scene.engine, &address, backlog, 0);
        try expect(fd >= 0 and address.port != 0);
        var named = Scene.local(0);
        try expectEqual(0, opening.name_of(scene.engine, fd, &named));
        try expectEqual(address.port, named.port);
        if (backlog > 0) _ = try scene.knock(fd) else {
            try std.testing.expectError(error.BacklogFull, scene.knock(fd));
        }
        scene.engine.kernel.close_fd(fd);
    }
    try expectEqual(before, network.open_descriptors());
    try scene.close();
}

test "a socket that cannot be bound leaves nothing behind" {
    inline for (.{ "socket", "bind", "option", "listen", "address" }) |fault| {
        var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
        const faults = &scene.kernel.fate.faults;
        @field(faults, fault) = 1000; // always
        var address = Scene.local(0);
        try expect(opening.socket_bind(scene.engine, &address, 8, 0) < 0);
        @field(faults, fault) = 0;
        address.text_len = abi.address_text_max + 1;
        try expectEqual(errno.inval, opening.socket_bind(scene.engine, &address, 8, 0));
        try expectEqual(errno.badf, opening.name_of(scene.engine, 9999, &address));
        try expectEqual(0, scene.kernel.network.open_descriptors());
        try scene.close();
    }
}

const key = 7;

fn socket_pair(scene: *Scene) i32 {
    const network = &scene.kernel.network;
    const made = network.pipe().?;
    network.sockets[network.find(made.fd).?].is_pipe = false;
    return made.fd;
}

test "a connection that is taken is the ring's own, and whoever handed it over is told" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const token: u32 = @intCast(scene.engine.posts.open(scene.engine));
    const fd = socket_pair(&scene);
    const index = opening.connection_take(scene.engine, fd, token, key, 42);
    try expect(index >= 0);
    try expectEqual(fd, scene.engine.connections.at(@intCast(index)).fd);
    try scene.turn(0);
    const told = scene.last(.post) orelse return error.NotTold;
    try expectEqual(key, told.extra);
    try expectEqual(42, told.data);
    try scene.close();
}

test "what is not taken stays the other's, and nobody is told" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const token: u32 = @intCast(scene.engine.posts.open(scene.engine));
    const fd = socket_pair(&scene);
    const engine = scene.engine;
    try expectEqual(errno.shutdown, opening.connection_take(engine, fd, token + 1024, key, 42));
    try expectEqual(errno.inval, opening.connection_take(engine, fd, token, key, 0.5));
    var claimed: u32 = 0;
    while (engine.connections.claim()) |_| claimed += 1;
    try expectEqual(errno.nomem, opening.connection_take(engine, fd, token, key, 42));
    for (0..claimed) |slot| engine.connections.retire(@intCast(slot));
    try expect(scene.kernel.network.find(fd) != null);
    try scene.turn(0);
    try expectEqual(0, scene.seen(.post));
    engine.kernel.close_fd(fd);
    try scene.close();
}

test "what was taken and is no connection is closed" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const token: u32 = @intCast(scene.engine.posts.open(scene.engine));
    const pipe = scene.kernel.network.pipe().?; // no socket
    const outcome = opening.connection_take(scene.engine, pipe.fd, token, key, 42);
    try expectEqual(errno.notsock, outcome);
    try expectEqual(null, scene.kernel.network.find(pipe.fd));
    try scene.close();
}
