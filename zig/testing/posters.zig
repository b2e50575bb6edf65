//! Other threads in a schedule: they post, wake and stop at any time between the engine's calls.
//!
//! What is accepted must arrive, each post once and in the order of its poster, also while the ring
//! sleeps: then only the bell tells it. A wake-up makes no event. Blocks are adopted, or left to
//! the ring; at the end none is mapped. With real threads: the tests of `mailbox.zig`.

const std = @import("std");
const abi = @import("../abi.zig");
const seam = @import("../kernel.zig");
const block = @import("../block.zig");
const mailbox = @import("../mailbox.zig");
const Schedule = @import("schedule.zig").Schedule;
const errno = seam.errno;

const Error = error{ Violation, OutOfMemory };

const posters_max = 3;
/// So often they act while the ring rests: that meets it asleep.
const rest_acts_max = 8;

pub const Posters = struct {
    token: ?u32 = null,
    accepted: [posters_max]u32 = @splat(0),
    arrived: [posters_max]u32 = @splat(0),
    wakeups: u32 = 0,
    stops: u32 = 0,
    rest_acts: u32 = 0,
    blocks_before: u32 = 0,

    fn waiting(posters: *const Posters) u32 {
        var sum: u32 = 0;
        for (posters.accepted, posters.arrived) |accepted, arrived| sum += accepted - arrived;
        return sum;
    }
};

pub fn begin(schedule: *Schedule) void {
    schedule.posters.blocks_before = block.count();
}

pub fn act(schedule: *Schedule) Error!void {
    const posters = &schedule.posters;
    if (schedule.ending or !schedule.chance(15)) return;
    if (schedule.resting) {
        if (posters.rest_acts == rest_acts_max) return;
        posters.rest_acts += 1;
    }
    const token = posters.token orelse {
        const outcome = schedule.engine.posts.open(schedule.engine);
        if (outcome >= 0) posters.token = @intCast(outcome);
        if (outcome >= 0 or outcome == errno.mfile or outcome == errno.nfile) return;
        return schedule.verdict.violation("a token gave {d}", .{outcome});
    };
    switch (schedule.below(20)) {
        0 => try expect_taken(schedule, mailbox.wakeup(token), &posters.wakeups),
        1 => try expect_taken(schedule, mailbox.stop(token), &posters.stops),
        // A stranger's token, and data that JavaScript could not hold.
        2 => if (mailbox.post_number(token + abi.rings_max, 0, 0) != errno.shutdown or
            mailbox.post_number(token, 0, 0.5) != errno.inval)
        {
            return schedule.verdict.violation("a wrong post was taken", .{});
        },
        else => for (0..1 + schedule.below(4)) |_| try post(schedule, token),
    }
}

fn expect_taken(schedule: *Schedule, outcome: i32, count: *u32) Error!void {
    if (outcome != 0) return schedule.verdict.violation("a signal gave {d}", .{outcome});
    count.* += 1;
}

fn post(schedule: *Schedule, token: u32) Error!void {
    const posters = &schedule.posters;
    const key = schedule.below(posters_max);
    const number: f64 = @floatFromInt(posters.accepted[key]);
    const outcome = if (schedule.chance(10)) outcome: {
        const header = block.map(16) orelse return error.OutOfMemory;
        bytes_of(header).* = number;
        defer header.release();
        break :outcome mailbox.post_block(token, key, header.address());
    } else mailbox.post_number(token, key, number);
    if (outcome == errno.again) {
        if (posters.waiting() >= schedule.engine.config.posts) return;
        return schedule.verdict.violation("a mailbox with room is full", .{});
    }
    if (outcome != 0) return schedule.verdict.violation("a post gave {d}", .{outcome});
    posters.accepted[key] += 1;
}

fn bytes_of(header: *block.Header) *f64 {
    return @ptrFromInt(@intFromPtr(header) + abi.block_header_size);
}

pub fn on_record(schedule: *Schedule, record: *const abi.Record) Error!void {
    const posters = &schedule.posters;
    const key = record.extra;
    if (key >= posters_max) return schedule.verdict.violation("a post with key {d}", .{key});
    const number = if (record.event == .post) record.data else number: {
        const header = block.of(record.data).?;
        const value = bytes_of(header).*;
        if (schedule.chance(50)) {
            const length = schedule.engine.posts.adopt(record.data);
            if (length != 16) return schedule.verdict.violation("a block of {d}", .{length});
            if (schedule.engine.posts.adopt(record.data) >= 0) {
                return schedule.verdict.violation("a block was adopted twice", .{});
            }
            block.handed_over(header);
            header.release();
        }
        break :number value;
    };
    if (number != @as(f64, @floatFromInt(posters.arrived[key]))) {
        return schedule.verdict.violation("post {d} of poster {d} came as its {d}th", .{
            number,
            key,
            posters.arrived[key],
        });
    }
    posters.arrived[key] += 1;
}

/// Whether a ring at rest owes something to its posters, or they to the test.
pub fn is_waiting(schedule: *const Schedule) bool {
    const posters = &schedule.posters;
    if (posters.token == null) return false;
    if (posters.rest_acts < rest_acts_max) return true;
    const control = schedule.engine.control;
    // Several signals before one look are one.
    const unheard = (posters.wakeups > 0 and control.wakeups == 0) or
        (posters.stops > 0 and control.stops == 0);
    return unheard or posters.waiting() > 0;
}

/// The last of it, before the descriptors and blocks are counted.
pub fn end(schedule: *Schedule) Error!void {
    const posters = &schedule.posters;
    schedule.engine.posts.close();
    const control = schedule.engine.control;
    if (control.wakeups > posters.wakeups or control.stops > posters.stops) {
        return schedule.verdict.violation("more signals than were sent", .{});
    }
    if (posters.token) |token| if (mailbox.post_number(token, 0, 0) != errno.shutdown) {
        return schedule.verdict.violation("a closed ring took a post", .{});
    };
    if (block.count() != posters.blocks_before) {
        return schedule.verdict.violation("{d} blocks are left", .{
            block.count() - posters.blocks_before,
        });
    }
}
