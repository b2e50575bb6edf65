//! The steps of a random run, each with dice of its own, so that one can be left out.
//!
//! A step is one call of the user or one turn of the ring, known by its turn and its number in it.
//! Its dice, and the kernel's, are thrown anew from the run's seed and that name: without one step
//! those after it stay what they were, and a failing run can be made short (`shrink.zig`). Who
//! looks gets a line for each step, each SQE and each CQE.

const std = @import("std");
const seam = @import("../kernel.zig");
const simulated = @import("../kernel/simulated.zig");
const slots = @import("../slots.zig");
const Kind = @import("../operation.zig").Kind;

const Dice = std.Random.SplitMix64;

/// Turns above, the number in the turn below: names in the order of the steps.
pub const Name = u64;

/// What a run is to do besides following its seed. It lies in memory that the shrinking process
/// shares with the child in which a run may die.
pub const Plan = struct {
    /// So many turns of traffic; then comes the end.
    turns_max: u32 = std.math.maxInt(u32),
    /// Faults that do not strike: a bit for each field of `Faults`.
    faults_off: u64 = 0,
    /// Only these steps happen, if it is set; rising.
    kept: ?[]const Name = null,
    /// Steps that happened, if they are asked for.
    happened: ?[]Name = null,
    happened_count: usize = 0,
    /// Turns of traffic that there were.
    turns: u32 = 0,
    /// What happened, in words, if it is asked for.
    text: ?[]u8 = null,
    text_len: usize = 0,

    pub fn clear(plan: *Plan, faults: *simulated.Faults) void {
        inline for (std.meta.fields(simulated.Faults), 0..) |field, bit| {
            if (plan.faults_off >> bit & 1 != 0) @field(faults, field.name) = 0;
        }
    }

    /// One more line; what has no room is cut.
    pub fn tell(plan: *Plan, comptime format: []const u8, arguments: anytype) void {
        const text = plan.text orelse return;
        const written = std.fmt.bufPrint(text[plan.text_len..], format ++ "\n", arguments) catch
            return;
        plan.text_len += written.len;
    }
};

pub const Steps = struct {
    seed: u64,
    /// The run's own dice, and those of its kernel.
    dice: *Dice,
    kernel: *simulated.Simulated,
    plan: ?*Plan,
    turn: u32 = 0,
    number: u32 = 0,
    /// The first of the kept steps that is not behind us.
    next: usize = 0,
    /// In the middle of a turn's step a call of the user has dice of its own.
    before: ?[2]Dice = null,

    /// The kernel's lines; after it nothing of the run may move in memory.
    pub fn watch(steps: *Steps) void {
        const plan = steps.plan orelse return;
        if (plan.text == null) return;
        steps.kernel.watcher = .{ .context = plan, .submitted = on_sqe, .posted = on_cqe };
    }

    /// Whether the next call of the user happens; if it does, `end` must follow.
    pub fn begin(steps: *Steps) bool {
        if (!steps.is_kept()) return false;
        steps.before = .{ steps.dice.*, steps.kernel.fate.prng };
        steps.throw();
        return true;
    }

    pub fn end(steps: *Steps) void {
        steps.dice.*, steps.kernel.fate.prng = steps.before.?;
        steps.before = null;
    }

    /// Whether the next turn of the ring happens.
    pub fn begin_turn(steps: *Steps) bool {
        steps.turn += 1;
        steps.number = 0;
        if (!steps.is_kept()) return false;
        steps.throw();
        steps.tell("turn {d}", .{steps.turn});
        return true;
    }

    fn is_kept(steps: *Steps) bool {
        const name = @as(Name, steps.turn) << 32 | steps.number;
        steps.number += 1;
        const plan = steps.plan orelse return true;
        // What comes after the traffic is no step that could be left out.
        if (steps.turn > plan.turns_max) return true;
        if (plan.kept) |kept| {
            while (steps.next < kept.len and kept[steps.next] < name) steps.next += 1;
            if (steps.next == kept.len or kept[steps.next] != name) return false;
        }
        if (plan.happened) |happened| if (plan.happened_count < happened.len) {
            happened[plan.happened_count] = name;
            plan.happened_count += 1;
        };
        return true;
    }

    fn throw(steps: *Steps) void {
        var dice: Dice = .init(steps.seed +% (@as(u64, steps.turn) << 32 | steps.number));
        steps.dice.* = .init(dice.next());
        steps.kernel.fate.prng = .init(dice.next());
    }

    pub fn tell(steps: *Steps, comptime format: []const u8, arguments: anytype) void {
        if (steps.plan) |plan| plan.tell(format, arguments);
    }

    /// Whether the traffic is over before its time.
    pub fn is_enough(steps: *Steps) bool {
        const plan = steps.plan orelse return false;
        plan.turns = steps.turn;
        return steps.turn >= plan.turns_max;
    }
};

fn on_sqe(context: *anyopaque, sqe: *const seam.Sqe) void {
    const plan: *Plan = @ptrCast(@alignCast(context));
    const whose: slots.UserData = @bitCast(sqe.user_data);
    plan.tell("    > {t} fd {d} length {d} flags {x}: {s} of {d}", .{
        sqe.opcode, sqe.fd, sqe.len, sqe.flags, name_of(whose.kind), whose.slot,
    });
}

fn on_cqe(context: *anyopaque, cqe: *const seam.Cqe) void {
    const plan: *Plan = @ptrCast(@alignCast(context));
    const whose: slots.UserData = @bitCast(cqe.user_data);
    plan.tell("    < {s} of {d}: {d} flags {x}", .{
        name_of(whose.kind), whose.slot, cqe.res, cqe.flags,
    });
}

fn name_of(kind: Kind) []const u8 {
    if (std.enums.tagName(Kind, kind)) |name| return name;
    const number = @intFromEnum(kind);
    return if (number >= Kind.member_first) "member of a chain" else "operation";
}
