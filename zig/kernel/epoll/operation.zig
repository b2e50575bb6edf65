//! The epoll twin's operations: what is kept of an SQE from its submission to its last CQE.
//!
//! They come from one pool whose pages are touched as needed, and wait in up to three places: on
//! the descriptor that keeps them (`descriptors.zig`), in the heap of those that go on at a time
//! (`timers.zig`), and, so that a cancel finds them, in a table by `user_data`. Members of a chain
//! that have not started are in none of these (K4).

const std = @import("std");
const assert = std.debug.assert;
const system = @import("../linux.zig");

/// free ──take──▶ taken ──its turn in the chain──▶ going ──finish──▶ free
///                  └──the chain breaks──▶ free      └─ waiting ─┘
pub const Stage = enum(u8) { free, taken, going, waiting };

pub const Operation = struct {
    sqe: system.Sqe,
    stage: Stage,
    /// It has gone into the table by `user_data`.
    is_listed: bool,
    /// An attempt was made.
    tried: bool,
    hard: bool,
    /// What was wrong with it when it was taken, or 0.
    refused: i32,
    /// The descriptor that it was asked to work on.
    named: i32,
    named_source: i32,
    /// It works on duplicates of its descriptors, made when it first waited.
    holds: bool,
    holds_source: bool,
    /// It waits for a time, and its descriptor knows of it.
    is_apart: bool,
    /// A FIFO that is open, but not yet at its other end; or -1.
    opened: i32,
    /// The number under which epoll watches what it waits for, or -1.
    watched: i32,
    /// Events that let it go on, and those that came: epoll_ctl(2).
    interest: u32,
    events: u32,
    /// Bytes moved so far.
    done: u32,
    /// When it goes on: of a time-out its end, of others the next attempt. Before its start: the
    /// duration.
    at_ns: u64,
    /// Its place in the heap, or `outside`.
    place: u32,
    /// The next member of its chain, the next free one, the next to be started.
    next: ?*Operation,
    /// The LINK_TIMEOUT of this one, and the other way round.
    timeout: ?*Operation,
    timed: ?*Operation,
    on_descriptor: Link,
    in_bucket: Link,

    pub const outside = std.math.maxInt(u32);

    pub fn is_zero_copy(operation: *const Operation) bool {
        const opcode = operation.sqe.opcode;
        return opcode == .SEND_ZC or opcode == .SENDMSG_ZC;
    }

    /// Moved so far, or why nothing was.
    pub fn part_or(operation: *const Operation, failure: i32) i32 {
        return if (operation.done > 0) @intCast(operation.done) else failure;
    }
};

pub const Link = struct { next: ?*Operation = null, previous: ?*Operation = null };

/// A list threaded through one of the operations' links; oldest first.
pub fn List(comptime link: []const u8) type {
    return struct {
        first: ?*Operation = null,
        last: ?*Operation = null,

        const Self = @This();

        pub fn append(list: *Self, operation: *Operation) void {
            @field(operation, link) = .{ .previous = list.last };
            if (list.last) |last| @field(last, link).next = operation else list.first = operation;
            list.last = operation;
        }

        pub fn remove(list: *Self, operation: *Operation) void {
            const own = @field(operation, link);
            if (own.previous) |before| @field(before, link).next = own.next else {
                assert(list.first == operation);
                list.first = own.next;
            }
            if (own.next) |behind| @field(behind, link).previous = own.previous else {
                assert(list.last == operation);
                list.last = own.previous;
            }
            @field(operation, link) = .{};
        }

        pub fn after(operation: *const Operation) ?*Operation {
            return @field(operation, link).next;
        }
    };
}

pub const Pool = struct {
    memory: []Operation,
    /// Those below were taken at least once; above lies untouched memory.
    fresh: u32 = 0,
    used: u32 = 0,
    free: ?*Operation = null,
    buckets: []List("in_bucket"),

    pub fn available(pool: *const Pool) u32 {
        return @as(u32, @intCast(pool.memory.len)) - pool.used;
    }

    /// There is one: whoever submits has asked `available`.
    pub fn take(pool: *Pool, sqe: *const system.Sqe) *Operation {
        assert(pool.available() > 0);
        pool.used += 1;
        const operation = pool.free orelse fresh: {
            pool.fresh += 1;
            break :fresh &pool.memory[pool.fresh - 1];
        };
        if (pool.free != null) pool.free = operation.next;
        operation.* = .{
            .sqe = sqe.*,
            .stage = .taken,
            .is_listed = false,
            .tried = false,
            .hard = sqe.flags & system.sqe_flag.io_hardlink != 0,
            .refused = 0,
            .named = sqe.fd,
            .named_source = -1,
            .holds = false,
            .holds_source = false,
            .is_apart = false,
            .opened = -1,
            .watched = -1,
            .interest = 0,
            .events = 0,
            .done = 0,
            .at_ns = 0,
            .place = Operation.outside,
            .next = null,
            .timeout = null,
            .timed = null,
            .on_descriptor = .{},
            .in_bucket = .{},
        };
        return operation;
    }

    pub fn give_back(pool: *Pool, operation: *Operation) void {
        assert(operation.stage != .free and operation.watched < 0);
        assert(operation.place == Operation.outside);
        if (operation.is_listed) pool.bucket(operation.sqe.user_data).remove(operation);
        operation.stage = .free;
        operation.next = pool.free;
        pool.free = operation;
        pool.used -= 1;
    }

    /// From here on a cancel finds it.
    pub fn list(pool: *Pool, operation: *Operation) void {
        if (operation.is_listed) return;
        operation.is_listed = true;
        pool.bucket(operation.sqe.user_data).append(operation);
    }

    pub fn bucket(pool: *Pool, user_data: u64) *List("in_bucket") {
        // The odd number next to 2^64 / golden ratio spreads neighbours over the table.
        const hash = user_data *% 0x9e37_79b9_7f4a_7c15;
        return &pool.buckets[hash >> 32 & (pool.buckets.len - 1)];
    }

    /// Every operation that was ever taken, free ones among them.
    pub fn all(pool: *Pool) []Operation {
        return pool.memory[0..pool.fresh];
    }
};
