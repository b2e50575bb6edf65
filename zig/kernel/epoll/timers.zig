//! Operations of the epoll twin that go on at a time: a heap, the nearest on top.
//!
//! Time-outs and linked time-outs expire in it; what can only be tried again later, since nothing
//! tells when, waits in it as well. An operation knows its place, so that it can leave early.

const std = @import("std");
const assert = std.debug.assert;
const Operation = @import("operation.zig").Operation;
const outside = Operation.outside;

pub const Timers = struct {
    heap: []*Operation,
    count: u32 = 0,

    pub fn nearest(timers: *const Timers) ?u64 {
        return if (timers.count == 0) null else timers.heap[0].at_ns;
    }

    /// The first whose time has come, taken out.
    pub fn due(timers: *Timers, now_ns: u64) ?*Operation {
        if (timers.count == 0 or timers.heap[0].at_ns > now_ns) return null;
        const first = timers.heap[0];
        timers.remove(first);
        return first;
    }

    pub fn add(timers: *Timers, operation: *Operation) void {
        assert(operation.place == outside);
        const place = timers.count;
        timers.count += 1;
        timers.put(operation, place);
        timers.rise(place);
    }

    /// Does nothing for an operation that has no time.
    pub fn remove(timers: *Timers, operation: *Operation) void {
        const place = operation.place;
        if (place == outside) return;
        assert(timers.heap[place] == operation);
        operation.place = outside;
        timers.count -= 1;
        if (place == timers.count) return;
        const moved = timers.heap[timers.count];
        timers.put(moved, place);
        timers.rise(place);
        timers.sink(moved.place);
    }

    fn put(timers: *Timers, operation: *Operation, place: u32) void {
        timers.heap[place] = operation;
        operation.place = place;
    }

    fn rise(timers: *Timers, start: u32) void {
        var place = start;
        const operation = timers.heap[place];
        while (place > 0) {
            const parent = (place - 1) / 2;
            if (timers.heap[parent].at_ns <= operation.at_ns) break;
            timers.put(timers.heap[parent], place);
            place = parent;
        }
        timers.put(operation, place);
    }

    fn sink(timers: *Timers, start: u32) void {
        var place = start;
        const operation = timers.heap[place];
        while (2 * place + 1 < timers.count) {
            var child = 2 * place + 1;
            if (child + 1 < timers.count and
                timers.heap[child + 1].at_ns < timers.heap[child].at_ns) child += 1;
            if (operation.at_ns <= timers.heap[child].at_ns) break;
            timers.put(timers.heap[child], place);
            place = child;
        }
        timers.put(operation, place);
    }
};

test "what is due comes in the order of its time, and what left does not come" {
    var random: std.Random.DefaultPrng = .init(5);
    var operations: [200]Operation = undefined;
    var heap: [200]*Operation = undefined;
    var timers: Timers = .{ .heap = &heap };
    for (&operations) |*operation| {
        operation.place = outside;
        operation.at_ns = random.random().uintLessThan(u64, 1000);
        timers.add(operation);
    }
    for (0..50) |i| timers.remove(&operations[4 * i]);
    timers.remove(&operations[0]); // twice does nothing
    var before: u64 = 0;
    for (0..150) |_| {
        try std.testing.expectEqual(timers.nearest().?, timers.heap[0].at_ns);
        const operation = timers.due(1000).?;
        try std.testing.expect(operation.at_ns >= before);
        before = operation.at_ns;
        operation.at_ns = 2000; // so that it would show if it came again
    }
    try std.testing.expectEqual(@as(?*Operation, null), timers.due(3000));
}
