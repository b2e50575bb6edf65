//! Slots: fixed tables of connections, listeners and operations, named by index and generation.
//!
//! A slot retired in turn N can be claimed again from turn N+1 on, because JavaScript still reads
//! the records of turn N while its handlers submit new work. Free slots are a FIFO, so that a stale
//! handle meets its successor as late as possible; a slot whose generations are used up leaves
//! service. Pages of slots that were never claimed are never touched. Step 4 of the straight line.

const std = @import("std");
const assert = std.debug.assert;
const abi = @import("abi.zig");
const poison = @import("poison.zig");
const mutation = @import("testing/mutation.zig");
const Kind = @import("operation.zig").Kind;

/// What travels through the kernel with each operation and comes back in its CQEs.
///
///     63            32 31      24 23             0
///     +---------------+----------+---------------+
///     |  generation   |   kind   |     slot      |
///     +---------------+----------+---------------+
pub const UserData = packed struct(u64) {
    slot: u24,
    kind: Kind,
    generation: u32,
};

comptime {
    assert(@bitSizeOf(@FieldType(UserData, "slot")) == abi.slot_bits);
}

/// free ──claim──▶ claimed ──retire──▶ free, from the next turn on
///                            └─ generations used up ─▶ out_of_service
pub const State = enum(u8) { free, claimed, out_of_service };

const none = std.math.maxInt(u32);

pub fn Slots(comptime Value: type) type {
    return struct {
        entries: []Entry,
        /// Entries below were claimed at least once; those above are untouched memory.
        fresh: u32 = 0,
        claimed_count: u32 = 0,
        /// In this turn: not to be had before the next.
        retired_count: u32 = 0,
        free: Chain = .{},
        retired: Chain = .{},

        const Table = @This();

        pub const Entry = struct {
            generation: u32,
            next: u32,
            state: State,
            value: Value,
        };

        /// FIFO threaded through `Entry.next`.
        const Chain = struct {
            head: u32 = none,
            tail: u32 = none,

            fn push(chain: *Chain, entries: []Entry, index: u32) void {
                entries[index].next = none;
                if (chain.tail == none) chain.head = index else entries[chain.tail].next = index;
                chain.tail = index;
            }

            /// All of `other`, in its order, behind what is here.
            fn take_all(chain: *Chain, entries: []Entry, other: *Chain) void {
                if (other.head == none) return;
                if (chain.tail == none) {
                    chain.head = other.head;
                } else {
                    entries[chain.tail].next = other.head;
                }
                chain.tail = other.tail;
                other.* = .{};
            }

            fn pop(chain: *Chain, entries: []Entry) ?u32 {
                if (chain.head == none) return null;
                const index = chain.head;
                chain.head = entries[index].next;
                if (chain.head == none) chain.tail = none;
                return index;
            }
        };

        pub fn init(entries: []Entry) Table {
            assert(entries.len <= abi.slots_max);
            return .{ .entries = entries };
        }

        /// A slot that nobody holds, its value undefined; null when all are taken.
        pub fn claim(table: *Table) ?u32 {
            const index = table.free.pop(table.entries) orelse fresh: {
                if (table.fresh == table.entries.len) return null;
                const index = table.fresh;
                table.fresh += 1;
                table.entries[index].generation = 1;
                table.entries[index].state = .free;
                break :fresh index;
            };
            const entry = &table.entries[index];
            assert(entry.state == .free);
            entry.state = .claimed;
            poison.acquired(std.mem.asBytes(&entry.value));
            table.claimed_count += 1;
            return index;
        }

        /// Whether `claim` would find none.
        pub fn is_full(table: *const Table) bool {
            return table.free.head == none and table.fresh == table.entries.len;
        }

        /// The value behind a handle from outside, or null if the handle is stale (I3).
        pub fn find(table: *Table, index: u32, generation_asked: u32) ?*Value {
            if (index >= table.fresh) return null;
            const entry = &table.entries[index];
            if (entry.state != .claimed) return null;
            const present = entry.generation == generation_asked or mutation.is(.ignore_generation);
            if (!present) return null;
            return &entry.value;
        }

        /// The value of a slot that is known to be claimed.
        pub fn at(table: *Table, index: u32) *Value {
            assert(table.entries[index].state == .claimed);
            return &table.entries[index].value;
        }

        pub fn generation(table: *const Table, index: u32) u32 {
            assert(index < table.fresh);
            return table.entries[index].generation;
        }

        pub fn is_claimed(table: *const Table, index: u32) bool {
            return index < table.fresh and table.entries[index].state == .claimed;
        }

        /// Ends the slot's generation: handles to it are stale from here on.
        pub fn retire(table: *Table, index: u32) void {
            const entry = &table.entries[index];
            assert(entry.state == .claimed);
            assert(table.claimed_count > 0);
            table.claimed_count -= 1;
            if (entry.generation == std.math.maxInt(u32)) {
                entry.state = .out_of_service;
                return;
            }
            entry.generation += 1;
            entry.state = .free;
            table.retired_count += 1;
            table.retired.push(table.entries, index);
        }

        /// At the start of a turn: what the previous turn retired may be claimed again.
        pub fn recycle(table: *Table) void {
            if (poison.is_active) table.poison_retired();
            table.free.take_all(table.entries, &table.retired);
            table.retired_count = 0;
        }

        /// Until now JavaScript could ask for what their operations had left.
        fn poison_retired(table: *Table) void {
            var index = table.retired.head;
            while (index != none) : (index = table.entries[index].next) {
                poison.released(std.mem.asBytes(&table.entries[index].value));
            }
        }
    };
}

/// A place in a `Queue`.
pub const Link = struct { next: u32 = outside, previous: u32 = outside };

const outside = std.math.maxInt(u32);

/// A FIFO of slots threaded through the field `link` of their values: no memory of its own, a slot
/// is in it at most once and can leave from the middle.
pub fn Queue(comptime Value: type, comptime link: []const u8) type {
    return struct {
        head: u32 = end,
        tail: u32 = end,
        count: u32 = 0,

        const Self = @This();
        const end = std.math.maxInt(u32) - 1;

        fn link_of(table: *Slots(Value), index: u32) *Link {
            return &@field(table.at(index), link);
        }

        pub fn push(queue: *Self, table: *Slots(Value), index: u32) void {
            const own = link_of(table, index);
            if (own.next != outside) return; // already waiting
            own.* = .{ .next = end, .previous = queue.tail };
            if (queue.tail == end) queue.head = index else link_of(table, queue.tail).next = index;
            queue.tail = index;
            queue.count += 1;
        }

        /// Ahead of everybody that waits.
        pub fn push_front(queue: *Self, table: *Slots(Value), index: u32) void {
            const own = link_of(table, index);
            if (own.next != outside) return; // already waiting
            own.* = .{ .next = queue.head, .previous = end };
            const first = queue.head;
            if (first == end) queue.tail = index else link_of(table, first).previous = index;
            queue.head = index;
            queue.count += 1;
        }

        pub fn pop(queue: *Self, table: *Slots(Value)) ?u32 {
            if (queue.head == end) return null;
            const index = queue.head;
            queue.remove(table, index);
            return index;
        }

        /// Does nothing if the slot does not wait here.
        pub inline fn remove(queue: *Self, table: *Slots(Value), index: u32) void {
            const own = link_of(table, index);
            if (own.next != outside) queue.unlink(table, own);
        }

        fn unlink(queue: *Self, table: *Slots(Value), own: *Link) void {
            assert(queue.count > 0);
            const after = own.next;
            const before = own.previous;
            if (before == end) queue.head = after else link_of(table, before).next = after;
            if (after == end) queue.tail = before else link_of(table, after).previous = before;
            own.* = .{};
            queue.count -= 1;
        }
    };
}

test "a retired slot is claimed again only after the turn, with a new generation" {
    var entries: [2]Slots(u8).Entry = undefined;
    var table: Slots(u8) = .init(&entries);
    const first = table.claim().?;
    const stale = table.generation(first);
    table.retire(first);
    try std.testing.expectEqual(@as(?*u8, null), table.find(first, stale));
    const second = table.claim().?;
    try std.testing.expect(second != first);
    try std.testing.expectEqual(@as(?u32, null), table.claim());
    table.recycle();
    try std.testing.expectEqual(first, table.claim().?);
    try std.testing.expect(table.generation(first) != stale);
    try std.testing.expectEqual(@as(u32, 2), table.claimed_count);
}

test "what a slot held can be read until it can be claimed again, and not after" {
    var entries: [1]Slots(u32).Entry = undefined;
    var table: Slots(u32) = .init(&entries);
    const index = table.claim().?;
    table.at(index).* = 7;
    table.retire(index);
    try std.testing.expectEqual(@as(u32, 7), entries[index].value);
    table.recycle();
    poison.acquired(std.mem.asBytes(&entries[index].value)); // for the look at it
    try std.testing.expectEqual(@as(u32, 0xaaaa_aaaa), entries[index].value);
}

test "free slots are reused first in, first out" {
    var entries: [4]Slots(void).Entry = undefined;
    var table: Slots(void) = .init(&entries);
    for (0..4) |_| _ = table.claim().?;
    for ([_]u32{ 2, 0, 3 }) |index| table.retire(index);
    table.recycle();
    for ([_]u32{ 2, 0, 3 }) |index| try std.testing.expectEqual(index, table.claim().?);
}

test "a slot whose generations are used up leaves service" {
    var entries: [1]Slots(void).Entry = undefined;
    var table: Slots(void) = .init(&entries);
    const index = table.claim().?;
    entries[index].generation = std.math.maxInt(u32);
    table.retire(index);
    table.recycle();
    try std.testing.expectEqual(@as(?u32, null), table.claim());
}

test "a queue holds a slot once, keeps the order and lets one leave from the middle" {
    const Value = struct { link: Link = .{} };
    var entries: [4]Slots(Value).Entry = undefined;
    var table: Slots(Value) = .init(&entries);
    for (0..4) |_| table.at(table.claim().?).* = .{};
    var queue: Queue(Value, "link") = .{};
    for ([_]u32{ 1, 3, 0, 1, 2, 0 }) |index| queue.push(&table, index);
    try std.testing.expectEqual(@as(u32, 4), queue.count);
    queue.remove(&table, 3);
    queue.remove(&table, 3);
    queue.push_front(&table, 3);
    for ([_]u32{ 3, 1, 0, 2 }) |index| try std.testing.expectEqual(index, queue.pop(&table).?);
    try std.testing.expectEqual(@as(?u32, null), queue.pop(&table));
    for ([_]u32{ 1, 3, 1 }) |index| queue.push_front(&table, index);
    queue.push(&table, 2);
    for ([_]u32{ 3, 1, 2 }) |index| try std.testing.expectEqual(index, queue.pop(&table).?);
    try std.testing.expectEqual(@as(?u32, null), queue.pop(&table));
}
