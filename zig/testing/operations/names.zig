//! The model of files: names, what is behind them, every byte, and who works on which bytes.
//!
//! Operations on one name, or on the same bytes where one of them writes, are not in flight at the
//! same time unless a chain puts them in order: so the result of each is known exactly when its
//! record comes. Written apart from the simulated kernel's volume, so that both must agree.

const std = @import("std");
const seam = @import("../../kernel.zig");
const model = @import("model.zig");
const Operation = model.Operation;
const errno = seam.errno;

pub const count = 12;
pub const whole = std.math.maxInt(u64);

pub const flag = struct {
    pub const create: u32 = 0o100;
    pub const exclusive: u32 = 0o200;
    pub const truncate: u32 = 0o1000;
    pub const remove_directory: u32 = 0x200;
    pub const keep_size: u32 = 1;
};

pub const Node = struct {
    bytes: std.ArrayList(u8) = .empty,
    /// Operations that read or change some of it.
    users: std.ArrayList(*Operation) = .empty,

    pub fn size(node: *const Node) u64 {
        return node.bytes.items.len;
    }

    /// True if nobody else is at these bytes in a way that conflicts. `strict`: not even a member
    /// of the same chain that comes before.
    pub fn is_free(node: *const Node, operation: *const Operation, strict: bool) bool {
        for (node.users.items) |user| {
            if (user.end <= operation.first or operation.end <= user.first) continue;
            if (!user.exclusive and !operation.exclusive) continue;
            if (!strict and operation.follows(user)) continue;
            return false;
        }
        return true;
    }

    pub fn resize(node: *Node, arena: std.mem.Allocator, len: u64) error{OutOfMemory}!void {
        const before = node.bytes.items.len;
        try node.bytes.resize(arena, len);
        if (len > before) @memset(node.bytes.items[before..], 0);
    }

    pub fn write(
        node: *Node,
        arena: std.mem.Allocator,
        at: u64,
        bytes: []const u8,
    ) error{OutOfMemory}!void {
        if (bytes.len == 0) return;
        if (node.size() < at + bytes.len) try node.resize(arena, at + bytes.len);
        @memcpy(node.bytes.items[at..][0..bytes.len], bytes);
    }

    /// What a read of so many bytes finds.
    pub fn read(node: *const Node, at: u64, len: u64) []const u8 {
        const start = @min(at, node.size());
        return node.bytes.items[start..@min(start + len, node.size())];
    }
};

const Behind = enum { nothing, file, directory, symbolic };

const Name = struct {
    behind: Behind = .nothing,
    /// Tells files, directories and links apart.
    id: u64 = 0,
    node: ?*Node = null,
    target: u8 = 0,
    user: ?*Operation = null,
};

pub const Names = struct {
    table: [count]Name = @splat(.{}),
    ids: u64 = 0,

    pub fn is_free(names: *const Names, operation: *const Operation) bool {
        for (operation.names) |entry| if (entry) |name| {
            if (names.table[name].user != null) return false;
        };
        return true;
    }

    pub fn hold(names: *Names, operation: *Operation) void {
        for (operation.names) |entry| if (entry) |name| {
            names.table[name].user = operation;
        };
    }

    pub fn release(names: *Names, operation: *const Operation) void {
        for (operation.names) |entry| if (entry) |name| {
            if (names.table[name].user == operation) names.table[name].user = null;
        };
    }

    pub fn at(names: *Names, name: ?u8) *Name {
        return &names.table[name.?];
    }

    /// The name that a symbolic link leads to.
    pub fn target_of(names: *const Names, name: u8) ?u8 {
        const entry = &names.table[name];
        return if (entry.behind == .symbolic) entry.target else null;
    }

    /// The file that opening this name finds, if there is one.
    pub fn node_of(names: *const Names, name: u8) ?*Node {
        const entry = &names.table[names.target_of(name) orelse name];
        return if (entry.behind == .file) entry.node else null;
    }

    fn fresh(names: *Names, behind: Behind) Name {
        names.ids += 1;
        return .{ .behind = behind, .id = names.ids };
    }

    fn put(names: *Names, name: u8, entry: Name) void {
        const user = names.table[name].user;
        names.table[name] = entry;
        names.table[name].user = user;
    }

    pub const Opened = union(enum) { node: *Node, failure: i32 };

    /// What openat(2) must do; a new file if that is what it makes.
    pub fn open(
        names: *Names,
        arena: std.mem.Allocator,
        name: u8,
        flags: u32,
        dry: bool,
    ) error{OutOfMemory}!Opened {
        const entry = names.at(name);
        const create = flags & flag.create != 0;
        if (entry.behind != .nothing and create and flags & flag.exclusive != 0) {
            return .{ .failure = errno.exist };
        }
        const found = names.at(names.target_of(name) orelse name);
        switch (found.behind) {
            .nothing => if (!create or found != entry) return .{ .failure = errno.noent },
            .directory, .symbolic => return .{ .failure = errno.isdir },
            .file => {
                if (!dry and flags & flag.truncate != 0) try found.node.?.resize(arena, 0);
                return .{ .node = found.node.? };
            },
        }
        const node = try arena.create(Node);
        node.* = .{};
        if (dry) return .{ .node = node };
        var made = names.fresh(.file);
        made.node = node;
        names.put(name, made);
        return .{ .node = node };
    }

    pub fn expected(names: *const Names, operation: *const Operation) i32 {
        const first = &names.table[operation.names[0].?];
        const flags = operation.arguments.flags;
        switch (operation.kind) {
            .mkdir, .symlink => return if (first.behind == .nothing) 0 else errno.exist,
            .statx => return if (first.behind == .nothing) errno.noent else 0,
            .unlink => {
                if (first.behind == .nothing) return errno.noent;
                const directory = first.behind == .directory;
                if (flags & flag.remove_directory == 0) return if (directory) errno.isdir else 0;
                return if (directory) 0 else errno.notdir;
            },
            else => {},
        }
        const second = &names.table[operation.names[1].?];
        if (first.behind == .nothing) return errno.noent;
        if (operation.kind == .link) {
            if (second.behind != .nothing) return errno.exist;
            return if (first.behind == .directory) errno.perm else 0;
        }
        if (second.behind == .nothing or first.id == second.id) return 0;
        const into = second.behind == .directory;
        if (into == (first.behind == .directory)) return 0;
        return if (into) errno.isdir else errno.notdir;
    }

    /// What a success changes.
    pub fn apply(names: *Names, operation: *const Operation) void {
        const name = operation.names[0].?;
        switch (operation.kind) {
            .mkdir => names.put(name, names.fresh(.directory)),
            .symlink => {
                var made = names.fresh(.symbolic);
                made.target = operation.target;
                names.put(name, made);
            },
            .unlink => names.put(name, .{}),
            .link => names.put(operation.names[1].?, names.table[name]),
            .rename => {
                const other = operation.names[1].?;
                if (names.table[name].id == names.table[other].id) return;
                names.put(other, names.table[name]);
                names.put(name, .{});
            },
            else => {},
        }
    }
};
