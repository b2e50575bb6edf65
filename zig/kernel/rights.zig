//! Descriptors in the control data of a message: SCM_RIGHTS, see unix(7) and cmsg(3).
//!
//! Sent, they are duplicated by the kernel when the message is; received, they are new descriptors
//! of this process, close-on-exec, and somebody's to close. Used by operations and connections;
//! it knows bytes only.

const std = @import("std");
const linux = std.os.linux;

const Header = linux.cmsghdr;
const scm_rights = 1;
/// Control data and each of its parts begin at a multiple of it (CMSG_ALIGN).
pub const alignment = @alignOf(Header);

/// Bytes of control data for so many descriptors (CMSG_SPACE).
pub fn size_of(count: u32) u32 {
    return std.mem.alignForward(u32, room_for(count), alignment);
}

/// The length that makes the kernel deliver so many and no more (CMSG_LEN).
pub fn room_for(count: u32) u32 {
    return @sizeOf(Header) + count * @sizeOf(i32);
}

/// Writes control data of `size_of(descriptors.len)` bytes.
pub fn write(control: []align(alignment) u8, descriptors: []align(1) const i32) void {
    const count: u32 = @intCast(descriptors.len);
    const header: *Header = @ptrCast(control.ptr);
    header.* = .{ .len = room_for(count), .level = linux.SOL.SOCKET, .type = scm_rights };
    const bytes = std.mem.sliceAsBytes(descriptors);
    @memcpy(control[@sizeOf(Header)..][0..bytes.len], bytes);
}

/// The descriptors in control data that the kernel wrote, whatever else it holds.
pub const Iterator = struct {
    control: []const u8,
    /// What is left of the part at hand.
    part: []const u8 = &.{},

    pub fn next(iterator: *Iterator) ?i32 {
        while (iterator.part.len < @sizeOf(i32)) {
            if (!iterator.next_part()) return null;
        }
        const descriptor = std.mem.readInt(i32, iterator.part[0..@sizeOf(i32)], .native);
        iterator.part = iterator.part[@sizeOf(i32)..];
        return descriptor;
    }

    fn next_part(iterator: *Iterator) bool {
        const rest = iterator.control;
        if (rest.len < @sizeOf(Header)) return false;
        const header = std.mem.bytesToValue(Header, rest[0..@sizeOf(Header)]);
        if (header.len < @sizeOf(Header) or header.len > rest.len) return false;
        const is_rights = header.level == linux.SOL.SOCKET and header.type == scm_rights;
        iterator.part = if (is_rights) rest[@sizeOf(Header)..header.len] else &.{};
        const next_at = std.mem.alignForward(usize, header.len, alignment);
        iterator.control = rest[@min(next_at, rest.len)..];
        return true;
    }
};

pub fn iterate(control: []const u8) Iterator {
    return .{ .control = control };
}

test "what was written is read, among other control data, and nothing beyond its length" {
    var control: [256]u8 align(alignment) = @splat(0);
    const stranger: Header = .{ .len = @sizeOf(Header) + 3, .level = 7, .type = 7 };
    @memcpy(control[0..@sizeOf(Header)], std.mem.asBytes(&stranger));
    const at = std.mem.alignForward(usize, stranger.len, alignment);
    for ([_][]const i32{ &.{5}, &.{ 7, 8, 9 } }) |descriptors| {
        write(@alignCast(control[at..]), descriptors);
        const len = at + size_of(@intCast(descriptors.len));
        var iterator = iterate(control[0..len]);
        for (descriptors) |expected| {
            try std.testing.expectEqual(expected, iterator.next().?);
        }
        try std.testing.expectEqual(@as(?i32, null), iterator.next());
    }
}

test "control data that makes no sense yields nothing and is never read beyond its end" {
    var prng: std.Random.DefaultPrng = .init(std.testing.random_seed);
    const random = prng.random();
    for (0..20_000) |_| {
        var control: [96]u8 align(alignment) = undefined;
        random.bytes(&control);
        // Mostly headers with lengths that are nearly right.
        if (random.boolean()) {
            const header: *Header = @ptrCast(&control);
            header.* = .{
                .len = random.uintLessThan(usize, 128),
                .level = linux.SOL.SOCKET,
                .type = scm_rights,
            };
        }
        const len = random.uintAtMost(usize, control.len);
        var iterator = iterate(control[0..len]);
        var count: usize = 0;
        while (iterator.next()) |_| count += 1;
        try std.testing.expect(count <= len / @sizeOf(i32));
    }
}
