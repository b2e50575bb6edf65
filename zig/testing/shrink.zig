//! Makes a run that fails short: fewer faults, then fewer steps, as long as it fails the same way.
//!
//! Each try is a run in a forked child, since an assert may end it. Steps are left out in halves,
//! quarters and so on, down to single ones, as in Zeller's ddmin. What is left is told in words.

const std = @import("std");
const campaign = @import("campaign.zig");
const simulated = @import("../kernel/simulated.zig");
const stepping = @import("steps.zig");
const Shared = campaign.Shared;

/// A try takes some milliseconds.
const tries_max = 4000;

pub const Shrunk = struct {
    steps_before: usize,
    steps: usize,
    faults: u32,
    tries: u32,
    /// A line for each step, SQE and CQE, and what was wrong.
    text: []const u8,
    message: []const u8,
};

const Search = struct {
    shared: *Shared,
    /// How it failed at first, without the numbers in it.
    failure: Words,
    /// Candidates: what is kept is copied from here.
    names: []stepping.Name,
    count: usize,
    tries: u32 = 0,

    /// Whether it still fails with these of the names.
    fn fails(search: *Search, without_from: usize, without_to: usize) !bool {
        const shared = search.shared;
        search.tries += 1;
        const head = search.names[0..without_from];
        const tail = search.names[without_to..search.count];
        @memcpy(shared.kept[0..head.len], head);
        @memcpy(shared.kept[head.len..][0..tail.len], tail);
        shared.plan.kept = shared.kept[0 .. head.len + tail.len];
        const message = try campaign.in_child(shared, campaign.run_one) orelse return false;
        return std.mem.eql(u8, Words.of(message).text(), search.failure.text());
    }

    fn leave_out_faults(search: *Search) !void {
        const plan = &search.shared.plan;
        for (0..std.meta.fields(simulated.Faults).len) |bit| {
            const before = plan.faults_off;
            plan.faults_off |= @as(u64, 1) << @intCast(bit);
            if (!try search.fails(0, 0)) plan.faults_off = before;
        }
    }

    fn leave_out_steps(search: *Search) !void {
        var size = search.count / 2;
        while (size > 0 and search.tries < tries_max) {
            var at: usize = 0;
            var shorter = false;
            while (at < search.count and search.tries < tries_max) {
                const to = @min(at + size, search.count);
                if (!try search.fails(at, to)) {
                    at = to;
                    continue;
                }
                std.mem.copyForwards(
                    stepping.Name,
                    search.names[at..],
                    search.names[to..search.count],
                );
                search.count -= to - at;
                shorter = true;
            }
            // Single ones again as long as that helps: one may have needed another.
            if (size > 1 or !shorter) size /= 2;
        }
    }
};

/// The run of `shared.kind` and `shared.seed`, made short; null if it does not fail.
pub fn shrink(allocator: std.mem.Allocator, shared: *Shared) !?Shrunk {
    shared.plan = .{ .happened = &shared.names };
    const message = try campaign.in_child(shared, campaign.run_one) orelse return null;
    const failure: Words = .of(message);
    const steps_before = shared.plan.happened_count;
    // It failed in the turn after the last one that was told, or that was the last one.
    shared.plan = .{ .turns_max = shared.plan.turns + 1 };
    const names = try allocator.dupe(stepping.Name, shared.names[0..steps_before]);
    defer allocator.free(names);
    var search: Search = .{
        .shared = shared,
        .failure = failure,
        .names = names,
        .count = steps_before,
    };
    // The same once more, as the proof that it can be replayed.
    if (!try search.fails(0, 0)) return error.CannotBeReplayed;
    try search.leave_out_faults();
    try search.leave_out_steps();
    shared.plan.text = &shared.text;
    if (!try search.fails(0, 0)) return error.CannotBeReplayed;
    const off = shared.plan.faults_off;
    return .{
        .steps_before = steps_before,
        .steps = search.count,
        .faults = @intCast(std.meta.fields(simulated.Faults).len - @popCount(off)),
        .tries = search.tries,
        .text = shared.text[0..shared.plan.text_len],
        .message = shared.message(),
    };
}

/// A message without its numbers, by which two failures are told to be the same.
const Words = struct {
    buffer: [256]u8 = undefined,
    len: usize = 0,

    fn of(message: []const u8) Words {
        var words: Words = .{};
        for (message) |character| {
            if (std.ascii.isDigit(character) or character == '-') continue;
            words.buffer[words.len] = character;
            words.len += 1;
        }
        return words;
    }

    fn text(words: *const Words) []const u8 {
        return words.buffer[0..words.len];
    }
};

test "failures are the same whatever their numbers" {
    try std.testing.expectEqualStrings("send gave ", Words.of("send gave -12").text());
}

test "a bug that is put in shrinks to a short schedule, which fails again and again" {
    const shared: *Shared = try .map();
    defer shared.unmap();
    shared.bug = .lose_retirement;
    shared.seed = std.testing.random_seed;
    while (try campaign.in_child(shared, campaign.run_slice) == null) {}
    const seed = shared.seed;
    const first = (try shrink(std.testing.allocator, shared)).?;
    const text = try std.testing.allocator.dupe(u8, first.text);
    defer std.testing.allocator.free(text);
    // No step of it can be left out, which is short as a rule.
    if (first.steps >= 40) try std.testing.expect(first.steps * 4 < first.steps_before);
    try std.testing.expect(first.steps < first.steps_before);
    try std.testing.expect(std.mem.indexOf(u8, text, "turn ") != null);
    try std.testing.expect(std.mem.indexOf(u8, text, "    > ") != null);
    // To the last line.
    shared.seed = seed;
    const second = (try shrink(std.testing.allocator, shared)).?;
    try std.testing.expectEqualStrings(text, second.text);
    // Without the bug the same seed does well.
    shared.bug = .none;
    try std.testing.expectEqual(null, try shrink(std.testing.allocator, shared));
}
