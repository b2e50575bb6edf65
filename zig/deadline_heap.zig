//! A heap of deadlines with the nearest on top, of members named by number.
//!
//! A binary heap in memory that is given once: it never grows. Each member is in it at most once,
//! and its place is known, so that any of them can leave or move. Equal deadlines come in the order
//! in which they were added. Nothing here knows a clock; `deadlines.zig` does.

const std = @import("std");
const assert = std.debug.assert;
const mutation = @import("testing/mutation.zig");

pub const Entry = struct {
    at_ns: u64,
    /// How many were added before it.
    order: u64,
    member: u32,

    fn is_before(entry: *const Entry, other: *const Entry) bool {
        if (entry.at_ns != other.at_ns) return entry.at_ns < other.at_ns;
        return entry.order < other.order and !mutation.is(.ignore_order);
    }
};

pub const Heap = struct {
    entries: []Entry,
    /// Of each member: its place plus 1, or 0, which is what fresh pages hold.
    places: []u32,
    count: u32 = 0,
    added: u64 = 0,

    pub fn init(entries: []Entry, places: []u32) Heap {
        assert(entries.len == places.len);
        return .{ .entries = entries, .places = places };
    }

    pub fn nearest(heap: *const Heap) ?*Entry {
        return if (heap.count == 0) null else &heap.entries[0];
    }

    pub fn find(heap: *const Heap, member: u32) ?*Entry {
        const place = heap.places[member];
        return if (place == 0) null else &heap.entries[place - 1];
    }

    pub fn add(heap: *Heap, member: u32, at_ns: u64) void {
        assert(heap.places[member] == 0);
        const place = heap.count;
        heap.count += 1;
        heap.added += 1;
        heap.rise(place, .{ .at_ns = at_ns, .order = heap.added, .member = member });
    }

    /// It keeps its rank among equals.
    pub fn move(heap: *Heap, member: u32, at_ns: u64) void {
        var entry = heap.find(member).?.*;
        entry.at_ns = at_ns;
        heap.settle(heap.places[member] - 1, entry);
    }

    pub fn remove(heap: *Heap, member: u32) void {
        const place = heap.places[member] - 1;
        heap.places[member] = 0;
        heap.count -= 1;
        if (place < heap.count) heap.settle(place, heap.entries[heap.count]);
    }

    fn settle(heap: *Heap, place: u32, entry: Entry) void {
        const rises = place > 0 and entry.is_before(&heap.entries[(place - 1) / 2]);
        if (rises) heap.rise(place, entry) else heap.sink(place, entry);
    }

    fn rise(heap: *Heap, from: u32, entry: Entry) void {
        var place = from;
        while (place > 0) {
            const above = (place - 1) / 2;
            if (!entry.is_before(&heap.entries[above])) break;
            heap.put(place, heap.entries[above]);
            place = above;
        }
        heap.put(place, entry);
    }

    fn sink(heap: *Heap, from: u32, entry: Entry) void {
        var place = from;
        while (2 * place + 1 < heap.count) {
            var below = 2 * place + 1;
            const beside = below + 1;
            if (beside < heap.count and heap.entries[beside].is_before(&heap.entries[below])) {
                below = beside;
            }
            if (!heap.entries[below].is_before(&entry)) break;
            heap.put(place, heap.entries[below]);
            place = below;
        }
        heap.put(place, entry);
    }

    fn put(heap: *Heap, place: u32, entry: Entry) void {
        heap.entries[place] = entry;
        heap.places[entry.member] = place + 1;
    }
};

// Tests ----------------------------------------------------------------------------------------

const testing = std.testing;

test "members leave in order of their deadlines, equal ones as they were added" {
    const count = 300;
    var entries: [count]Entry = undefined;
    var places: [count]u32 = @splat(0);
    var heap: Heap = .init(&entries, &places);
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    const random = prng.random();
    // The model: what is due when, and since when it is there; looked through for the least.
    var model: [count]?struct { at_ns: u64, since: u64 } = @splat(null);
    for (0..20_000) |step| {
        const member = random.uintLessThan(u32, count);
        const at_ns = random.uintLessThan(u64, 40); // many are equal
        if (model[member]) |*known| switch (random.uintLessThan(u32, 3)) {
            0 => {
                heap.remove(member);
                model[member] = null;
            },
            1 => {
                heap.move(member, at_ns);
                known.at_ns = at_ns;
            },
            else => try testing.expectEqual(known.at_ns, heap.find(member).?.at_ns),
        } else {
            heap.add(member, at_ns);
            model[member] = .{ .at_ns = at_ns, .since = step };
        }
        var least: ?u32 = null;
        for (&model, 0..) |*entry, i| {
            const one = entry.* orelse continue;
            const best = if (least) |index| model[index].? else {
                least = @intCast(i);
                continue;
            };
            const is_less = one.at_ns < best.at_ns or
                (one.at_ns == best.at_ns and one.since < best.since);
            if (is_less) least = @intCast(i);
        }
        const nearest: ?u32 = if (heap.nearest()) |entry| entry.member else null;
        try testing.expectEqual(least, nearest);
    }
}
