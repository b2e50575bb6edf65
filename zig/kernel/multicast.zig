//! Multicast groups of the real kernel: joined, left, sent to, by setsockopt(2).
//!
//! Results are 0 or a negative errno. Each request is of the group's family: IPv4 names an
//! interface by one of its addresses, IPv6 by the scope of an address. See ip(7), ipv6(7).

const std = @import("std");
const linux = std.os.linux;
const system = @import("linux.zig");
const seam = @import("../kernel.zig");
const SocketAddress = @import("address.zig").SocketAddress;
const errno = system.errno;

const ip = linux.IPPROTO.IP;
const ipv6 = linux.IPPROTO.IPV6;

/// MCAST_JOIN_SOURCE_GROUP and its opposite, which std has no names for: ipv6(7).
const mcast_join_source_group = 46;
const mcast_leave_source_group = 47;

/// struct group_source_req.
const GroupSource = extern struct {
    interface: u32,
    padding: u32 = 0,
    group: [128]u8 align(8),
    source: [128]u8 align(8),
};

pub fn change(fd: i32, asked: *const seam.Membership) i32 {
    const subject = if (asked.action == .send_by)
        &(asked.interface orelse return errno.inval)
    else
        &asked.group;
    if (asked.interface) |*interface| {
        if (interface.is_ipv6() != subject.is_ipv6()) return errno.inval;
    }
    return if (subject.is_ipv6()) change_ipv6(fd, asked) else change_ipv4(fd, asked);
}

/// Words in network order: struct ip_mreq, struct ip_mreq_source.
fn change_ipv4(fd: i32, asked: *const seam.Membership) i32 {
    const any: u32 = 0;
    const group = word_of(&asked.group);
    const interface = if (asked.interface) |*address| word_of(address) else any;
    const source = if (asked.source) |*address| word_of(address) else any;
    return switch (asked.action) {
        .join => set(fd, ip, linux.IP.ADD_MEMBERSHIP, &.{ group, interface }),
        .leave => set(fd, ip, linux.IP.DROP_MEMBERSHIP, &.{ group, interface }),
        .join_source => set(fd, ip, linux.IP.ADD_SOURCE_MEMBERSHIP, &.{
            group, interface, source,
        }),
        .leave_source => set(fd, ip, linux.IP.DROP_SOURCE_MEMBERSHIP, &.{
            group, interface, source,
        }),
        .send_by => set(fd, ip, linux.IP.MULTICAST_IF, &.{interface}),
    };
}

fn word_of(address: *const SocketAddress) u32 {
    const in = std.mem.bytesToValue(linux.sockaddr.in, &address.bytes);
    return in.addr;
}

fn change_ipv6(fd: i32, asked: *const seam.Membership) i32 {
    const interface = if (asked.interface) |*address| scope_of(address) else 0;
    switch (asked.action) {
        .send_by => return set(fd, ipv6, linux.IPV6.MULTICAST_IF, &.{interface}),
        .join, .leave => {
            const in6 = std.mem.bytesToValue(linux.sockaddr.in6, &asked.group.bytes);
            var request: [5]u32 = undefined; // struct ipv6_mreq
            @memcpy(std.mem.sliceAsBytes(request[0..4]), &in6.addr);
            request[4] = interface;
            const name: u32 = if (asked.action == .join)
                linux.IPV6.ADD_MEMBERSHIP
            else
                linux.IPV6.DROP_MEMBERSHIP;
            return set(fd, ipv6, name, &request);
        },
        .join_source, .leave_source => {
            const source = &(asked.source orelse return errno.inval);
            var request: GroupSource = .{
                .interface = interface,
                .group = @splat(0),
                .source = @splat(0),
            };
            @memcpy(request.group[0..asked.group.bytes.len], &asked.group.bytes);
            @memcpy(request.source[0..source.bytes.len], &source.bytes);
            const words = std.mem.bytesAsSlice(u32, std.mem.asBytes(&request));
            const joins = asked.action == .join_source;
            const name: u32 = if (joins) mcast_join_source_group else mcast_leave_source_group;
            return set(fd, ipv6, name, @alignCast(words));
        },
    }
}

fn scope_of(address: *const SocketAddress) u32 {
    return std.mem.bytesToValue(linux.sockaddr.in6, &address.bytes).scope_id;
}

fn set(fd: i32, level: i32, name: u32, words: []const u32) i32 {
    const bytes = std.mem.sliceAsBytes(words);
    return system.result(linux.setsockopt(fd, level, name, bytes.ptr, @intCast(bytes.len)));
}
