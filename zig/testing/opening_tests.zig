//! Sockets that are nobody's yet, and connections that are taken from a descriptor of another's, on
//! the simulated kernel: whose descriptor is whose, also when the call is refused.

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

test "a connection is taken from a copy, and the original stays the caller's" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const network = &scene.kernel.network;
    const made = network.pipe().?;
    network.sockets[network.find(made.fd).?].is_pipe = false;
    const index = opening.connection_take(scene.engine, made.fd);
    try expect(index >= 0);
    const copy = scene.engine.connections.at(@intCast(index)).fd;
    try expect(copy != made.fd);
    scene.engine.kernel.close_fd(made.fd);
    try expect(scene.engine.kernel.is_open(copy));
    try scene.close();
}

test "what cannot be taken is left alone, and no copy of it stays" {
    var scene: Scene = try .open(.{ .seed = std.testing.random_seed });
    const network = &scene.kernel.network;
    const pipe = network.pipe().?; // no socket
    const before = network.open_descriptors();
    try expectEqual(errno.notsock, opening.connection_take(scene.engine, pipe.fd));
    try expectEqual(errno.badf, opening.connection_take(scene.engine, 9999));
    try expectEqual(before, network.open_descriptors());
    scene.engine.kernel.close_fd(pipe.fd);
    try scene.close();
}
