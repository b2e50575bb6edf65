//! Registered files and buffers of the simulated kernel: tables of places.
//!
//! A place holds its file open, also after the descriptor was closed; an operation holds what it
//! found there, whatever the place gets afterwards. A registered buffer that an operation uses must
//! not be unregistered before its CQE: the real kernel would wait, the engine must not let it.

const std = @import("std");
const abi = @import("../../abi.zig");
const system = @import("../linux.zig");
const network_file = @import("network.zig");
const Operation = @import("operations.zig").Operation;
const Network = network_file.Network;
const none = network_file.none;
const errno = system.errno;

pub const Registered = struct {
    /// Sockets; `none` is an empty place.
    files: std.ArrayList(u32) = .empty,
    buffers: std.ArrayList([]u8) = .empty,
    buffers_registered: bool = false,

    pub fn deinit(registered: *Registered, allocator: std.mem.Allocator) void {
        registered.files.deinit(allocator);
        registered.buffers.deinit(allocator);
    }

    /// 0, or an errno that leaves the place empty; null if a place is taken that was not emptied.
    pub fn file_set(registered: *Registered, network: *Network, place: u32, fd: i32) ?i32 {
        if (place >= registered.files.items.len) return errno.inval;
        const held = registered.files.items[place];
        // Places of connections come first; a user's can be replaced.
        const replaceable = place + abi.registered_max >= registered.files.items.len;
        if (held != none and fd >= 0 and !replaceable) return null;
        if (held != none) {
            network.sockets[held].places -= 1;
            network.drop_reference(held);
        }
        registered.files.items[place] = none;
        if (fd < 0) return 0;
        const index = network.find(fd) orelse return errno.badf;
        network.add_reference(index);
        network.sockets[index].places += 1;
        registered.files.items[place] = index;
        return 0;
    }

    /// What an entry's descriptor or place names; null if nothing (EBADF).
    pub fn find(registered: *const Registered, network: *Network, sqe: *const system.Sqe) ?u32 {
        if (sqe.flags & system.sqe_flag.fixed_file == 0) return network.find(sqe.fd);
        const place: u32 = @bitCast(sqe.fd);
        if (place >= registered.files.items.len) return null;
        const held = registered.files.items[place];
        return if (held == none) null else held;
    }

    /// True if the bytes lie in the registered buffer of this number.
    pub fn holds(registered: *const Registered, place: u32, address: u64, len: usize) bool {
        if (place >= registered.buffers.items.len) return false;
        const buffer = registered.buffers.items[place];
        const first = @intFromPtr(buffer.ptr);
        return address >= first and address - first <= buffer.len and
            len <= buffer.len - (address - first);
    }

    pub fn files_held(registered: *const Registered) u32 {
        var count: u32 = 0;
        for (registered.files.items) |held| count += @intFromBool(held != none);
        return count;
    }
};

pub fn chain_uses_buffer(first: *const Operation) bool {
    var member: ?*const Operation = first;
    while (member) |operation| : (member = operation.next) {
        if (operation.fixed_buffer) return true;
    }
    return false;
}
