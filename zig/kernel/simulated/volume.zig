//! The simulated file system: names in one directory, and what is behind them, in memory.
//!
//! Files keep every byte; directories are empty for ever; a symbolic link is followed once. A file
//! lives until its last name is gone and it is open nowhere. Results are ≥ 0 or a negative errno,
//! as the system calls'. Nothing fails by chance here: faults are `system_calls.zig`'s business.

const std = @import("std");
const assert = std.debug.assert;
const system = @import("../linux.zig");
const linux = std.os.linux;
const errno = system.errno;

/// A file is no longer than this: beyond it EFBIG.
pub const file_bytes_max = 64 * 1024;
const names_max = 64;

/// A path, copied when the kernel takes the SQE that names it.
pub const Path = struct {
    bytes: [length_max]u8 = undefined,
    len: u8 = 0,

    pub const length_max = 40;

    pub fn text(path: *const Path) []const u8 {
        return path.bytes[0..path.len];
    }
};

pub const flag = struct {
    pub const create: u32 = 0o100;
    pub const exclusive: u32 = 0o200;
    pub const truncate: u32 = 0o1000;
    /// AT_REMOVEDIR of unlinkat(2).
    pub const remove_directory: u32 = 0x200;
    /// FALLOC_FL_KEEP_SIZE of fallocate(2).
    pub const keep_size: u32 = 1;
};

const Kind = enum { free, file, directory, symbolic };

const Node = struct {
    kind: Kind = .free,
    names: u32 = 0,
    opens: u32 = 0,
    bytes: std.ArrayList(u8) = .empty,
    target: Path = .{},
};

const Name = struct { path: Path = .{}, node: u32 };

pub const Volume = struct {
    allocator: std.mem.Allocator,
    nodes: std.ArrayList(Node) = .empty,
    names: std.ArrayList(Name) = .empty,

    pub fn deinit(volume: *Volume) void {
        for (volume.nodes.items) |*node| node.bytes.deinit(volume.allocator);
        volume.nodes.deinit(volume.allocator);
        volume.names.deinit(volume.allocator);
    }

    fn lookup(volume: *const Volume, path: *const Path) ?usize {
        for (volume.names.items, 0..) |*name, i| {
            if (std.mem.eql(u8, name.path.text(), path.text())) return i;
        }
        return null;
    }

    fn node_of(volume: *const Volume, path: *const Path) ?u32 {
        return volume.names.items[volume.lookup(path) orelse return null].node;
    }

    fn create(volume: *Volume, path: *const Path, kind: Kind) i32 {
        const index: u32 = for (volume.nodes.items, 0..) |*node, i| {
            if (node.kind == .free) break @intCast(i);
        } else fresh: {
            volume.nodes.append(volume.allocator, .{}) catch return errno.nomem;
            break :fresh @intCast(volume.nodes.items.len - 1);
        };
        const node = &volume.nodes.items[index];
        const bytes = node.bytes;
        node.* = .{ .kind = kind, .bytes = bytes };
        node.bytes.clearRetainingCapacity();
        return volume.add_name(path, index);
    }

    /// The node's index, or an errno that leaves nothing behind.
    fn add_name(volume: *Volume, path: *const Path, index: u32) i32 {
        const name: Name = .{ .path = path.*, .node = index };
        const full = volume.names.items.len == names_max;
        if (!full) volume.names.append(volume.allocator, name) catch return errno.nomem;
        if (!full) volume.nodes.items[index].names += 1;
        volume.free_if_done(index);
        return if (full) errno.nomem else @intCast(index);
    }

    fn remove_name(volume: *Volume, at: usize) void {
        const index = volume.names.swapRemove(at).node;
        volume.nodes.items[index].names -= 1;
        volume.free_if_done(index);
    }

    fn free_if_done(volume: *Volume, index: u32) void {
        const node = &volume.nodes.items[index];
        if (node.names == 0 and node.opens == 0) node.kind = .free;
    }

    // Names.

    /// The node of an open file, counted until `close`.
    pub fn open(volume: *Volume, path: *const Path, flags: u32) i32 {
        if (path.len == 0) return errno.noent;
        var index: i32 = if (volume.node_of(path)) |node| @intCast(node) else errno.noent;
        if (index >= 0 and flags & flag.create != 0 and flags & flag.exclusive != 0) {
            return errno.exist;
        }
        if (index >= 0 and volume.nodes.items[@intCast(index)].kind == .symbolic) {
            const target = volume.nodes.items[@intCast(index)].target;
            index = if (volume.node_of(&target)) |node| @intCast(node) else return errno.noent;
        }
        if (index < 0 and flags & flag.create != 0) index = volume.create(path, .file);
        if (index < 0) return index;
        const node = &volume.nodes.items[@intCast(index)];
        if (node.kind != .file) return errno.isdir; // or a link to a link, which nobody makes
        if (flags & flag.truncate != 0) node.bytes.clearRetainingCapacity();
        node.opens += 1;
        return index;
    }

    pub fn close(volume: *Volume, index: u32) void {
        assert(volume.nodes.items[index].opens > 0);
        volume.nodes.items[index].opens -= 1;
        volume.free_if_done(index);
    }

    pub fn make_directory(volume: *Volume, path: *const Path) i32 {
        if (volume.lookup(path) != null) return errno.exist;
        return @min(volume.create(path, .directory), 0);
    }

    pub fn make_symbolic(volume: *Volume, target: *const Path, path: *const Path) i32 {
        if (volume.lookup(path) != null) return errno.exist;
        const index = volume.create(path, .symbolic);
        if (index < 0) return index;
        volume.nodes.items[@intCast(index)].target = target.*;
        return 0;
    }

    pub fn link(volume: *Volume, old: *const Path, new: *const Path) i32 {
        const index = volume.node_of(old) orelse return errno.noent;
        if (volume.lookup(new) != null) return errno.exist;
        if (volume.nodes.items[index].kind == .directory) return errno.perm;
        return @min(volume.add_name(new, index), 0);
    }

    pub fn unlink(volume: *Volume, path: *const Path, flags: u32) i32 {
        const at = volume.lookup(path) orelse return errno.noent;
        const kind = volume.nodes.items[volume.names.items[at].node].kind;
        const directory = flags & flag.remove_directory != 0;
        if (directory and kind != .directory) return errno.notdir;
        if (!directory and kind == .directory) return errno.isdir;
        volume.remove_name(at);
        return 0;
    }

    pub fn rename(volume: *Volume, old: *const Path, new: *const Path) i32 {
        const from = volume.lookup(old) orelse return errno.noent;
        if (std.mem.eql(u8, old.text(), new.text())) return 0;
        const moved = volume.names.items[from].node;
        if (volume.lookup(new)) |to| {
            const replaced = volume.names.items[to].node;
            if (replaced == moved) return 0; // two names of one file: rename(2) does nothing
            const into = volume.nodes.items[replaced].kind == .directory;
            if (into != (volume.nodes.items[moved].kind == .directory)) {
                return if (into) errno.isdir else errno.notdir;
            }
            volume.remove_name(to);
        }
        const at = volume.lookup(old).?; // removing has moved names about
        volume.names.items[at].path = new.*;
        return 0;
    }

    /// statx(2): what the tests look at, zeros otherwise.
    pub fn describe(volume: *Volume, path: *const Path, out: *linux.Statx) i32 {
        const index = volume.node_of(path) orelse return errno.noent;
        const node = &volume.nodes.items[index];
        out.* = std.mem.zeroes(linux.Statx);
        out.nlink = node.names;
        out.ino = index;
        out.size = node.bytes.items.len;
        return 0;
    }

    // Content.

    pub fn size(volume: *const Volume, index: u32) usize {
        return volume.nodes.items[index].bytes.items.len;
    }

    pub fn read(volume: *const Volume, index: u32, at: u64, out: []u8) usize {
        const bytes = volume.nodes.items[index].bytes.items;
        if (at >= bytes.len) return 0;
        const count = @min(out.len, bytes.len - at);
        @memcpy(out[0..count], bytes[at..][0..count]);
        return count;
    }

    pub fn write(volume: *Volume, index: u32, at: u64, bytes: []const u8) i32 {
        if (at > file_bytes_max or bytes.len > file_bytes_max - at) return errno.fbig;
        if (volume.size(index) < at + bytes.len) {
            const outcome = volume.resize(index, at + bytes.len);
            if (outcome < 0) return outcome;
        }
        @memcpy(volume.nodes.items[index].bytes.items[at..][0..bytes.len], bytes);
        return @intCast(bytes.len);
    }

    /// What is new reads as zeros.
    pub fn resize(volume: *Volume, index: u32, len: u64) i32 {
        if (len > file_bytes_max) return errno.fbig;
        const bytes = &volume.nodes.items[index].bytes;
        const before = bytes.items.len;
        bytes.resize(volume.allocator, len) catch return errno.nomem;
        if (len > before) @memset(bytes.items[before..], 0);
        return 0;
    }
};

fn path_of(text: []const u8) Path {
    var path: Path = .{ .len = @intCast(text.len) };
    @memcpy(path.bytes[0..text.len], text);
    return path;
}

test "names come, move and go; a file lives as long as it is open" {
    var volume: Volume = .{ .allocator = std.testing.allocator };
    defer volume.deinit();
    const a = path_of("a");
    const b = path_of("b");
    const d = path_of("d");
    const expect = std.testing.expectEqual;
    try expect(errno.noent, volume.open(&a, 0));
    const node: u32 = @intCast(volume.open(&a, flag.create));
    try expect(errno.exist, volume.open(&a, flag.create | flag.exclusive));
    try expect(@as(i32, 3), volume.write(node, 2, "xyz"));
    try expect(@as(i32, 0), volume.link(&a, &b));
    try expect(errno.exist, volume.link(&a, &b));
    try expect(@as(i32, 0), volume.rename(&a, &b)); // both are the same file
    try expect(@as(i32, 0), volume.unlink(&a, 0));
    try expect(@as(i32, 0), volume.unlink(&b, 0));
    try expect(errno.noent, volume.unlink(&b, 0));
    var out: [8]u8 = undefined;
    try std.testing.expectEqualStrings("\x00\x00xyz", out[0..volume.read(node, 0, &out)]);
    try expect(@as(i32, 0), volume.make_directory(&d));
    try expect(errno.isdir, volume.unlink(&d, 0));
    try expect(@as(i32, 0), volume.rename(&d, &a));
    try expect(@as(i32, 0), volume.unlink(&a, flag.remove_directory));
    volume.close(node);
    try expect(Kind.free, volume.nodes.items[node].kind);
    try expect(errno.fbig, volume.resize(node, file_bytes_max + 1));
}

test "a symbolic link is followed by open, and stays when its target goes" {
    var volume: Volume = .{ .allocator = std.testing.allocator };
    defer volume.deinit();
    const a = path_of("a");
    const s = path_of("s");
    const expect = std.testing.expectEqual;
    try expect(@as(i32, 0), volume.make_symbolic(&a, &s));
    try expect(errno.noent, volume.open(&s, 0));
    const node = volume.open(&a, flag.create);
    try expect(node, volume.open(&s, 0));
    var out: linux.Statx = undefined;
    try expect(@as(i32, 0), volume.resize(@intCast(node), 77));
    try expect(@as(i32, 0), volume.describe(&a, &out));
    try expect(@as(u64, 77), out.size);
}
