//! Socket addresses: text as it crosses the boundary, bytes as the kernel reads them.
//!
//! Parsing and printing of the numeric forms are std's. Unix paths may be abstract (first byte NUL,
//! see unix(7)). Used by listen, connect and the address calls; never resolves names.

const std = @import("std");
const abi = @import("../abi.zig");
const linux = std.os.linux;
const Ip4 = std.Io.net.Ip4Address;
const Ip6 = std.Io.net.Ip6Address;

pub const SocketAddress = extern struct {
    /// sockaddr_in, sockaddr_in6 or sockaddr_un.
    bytes: [112]u8 align(8),
    len: u32,
    /// Explicit, so that the struct has no hidden bytes.
    padding: u32 = 0,

    comptime {
        std.debug.assert(@sizeOf(linux.sockaddr.un) <= 112);
    }

    /// A socket without a name has a length of 0, or its family alone.
    pub fn family(address: *const SocketAddress) u16 {
        if (address.len < 2) return linux.AF.UNSPEC;
        return std.mem.readInt(u16, address.bytes[0..2], .native);
    }

    pub fn is_unix(address: *const SocketAddress) bool {
        return address.family() == linux.AF.UNIX;
    }

    pub fn is_ipv6(address: *const SocketAddress) bool {
        return address.family() == linux.AF.INET6;
    }

    const Ipv4 = struct { address: u32, port: u16 };

    /// An IPv4 address as a number whose highest byte is the first, from the kernel's form.
    pub fn ipv4_of(name: []const u8) ?Ipv4 {
        if (name.len < @sizeOf(linux.sockaddr.in)) return null;
        const in = std.mem.bytesToValue(linux.sockaddr.in, name[0..@sizeOf(linux.sockaddr.in)]);
        if (in.family != linux.AF.INET) return null;
        return .{
            .address = std.mem.bigToNative(u32, in.addr),
            .port = std.mem.bigToNative(u16, in.port),
        };
    }

    /// The same address as an IPv6 socket that also speaks IPv4 writes it: ::ffff:a.b.c.d.
    pub fn mapped(address: *const SocketAddress) ?SocketAddress {
        const ipv4 = ipv4_of(address.bytes[0..address.len]) orelse return null;
        var bytes: [16]u8 = @splat(0);
        @memset(bytes[10..12], 0xff);
        std.mem.writeInt(u32, bytes[12..16], ipv4.address, .big);
        return from(linux.sockaddr.in6{
            .port = std.mem.nativeToBig(u16, ipv4.port),
            .flowinfo = 0,
            .addr = bytes,
            .scope_id = 0,
        });
    }

    /// From four bytes of address and two of port, in network order.
    pub fn ipv4_from(host: *const [4]u8, port: *const [2]u8) SocketAddress {
        return from(linux.sockaddr.in{ .port = @bitCast(port.*), .addr = @bitCast(host.*) });
    }

    pub fn ipv6_from(host: *const [16]u8, port: *const [2]u8) SocketAddress {
        return from(linux.sockaddr.in6{
            .port = @bitCast(port.*),
            .flowinfo = 0,
            .addr = host.*,
            .scope_id = 0,
        });
    }

    /// From a field of fixed size: a path ends with its first NUL, an abstract name with its last
    /// byte that is none.
    pub fn unix_from(path: *const [abi.address_text_max]u8) SocketAddress {
        var address: SocketAddress = .unnamed_unix();
        @memcpy(address.bytes[2..][0..path.len], path);
        const text = std.mem.trimEnd(u8, path, "\x00");
        const abstract = path[0] == 0;
        const len = if (abstract) text.len else std.mem.sliceTo(path, 0).len;
        address.len = @intCast(2 + len);
        return address;
    }

    /// A Unix address that the kernel completes with a name of its own: autobind in unix(7).
    pub fn unnamed_unix() SocketAddress {
        var address: SocketAddress = .{ .bytes = @splat(0), .len = 2 };
        std.mem.writeInt(u16, address.bytes[0..2], linux.AF.UNIX, .native);
        return address;
    }

    /// From JavaScript, which may have written any number for the family.
    pub fn from_boundary(text: *const abi.Address) ?SocketAddress {
        const family_number: *const u32 = @ptrCast(&text.family);
        if (std.enums.fromInt(abi.Family, family_number.*) == null) return null;
        return parse(text) catch null;
    }

    pub fn parse(text: *const abi.Address) error{Invalid}!SocketAddress {
        if (text.text_len > abi.address_text_max) return error.Invalid;
        const bytes = text.text[0..text.text_len];
        return switch (text.family) {
            .ipv4 => parse_ipv4(bytes, text.port),
            .ipv6 => parse_ipv6(bytes, text.port),
            .unix => parse_unix(bytes),
        };
    }

    fn parse_ipv4(text: []const u8, port: u32) error{Invalid}!SocketAddress {
        const host_port = std.math.cast(u16, port) orelse return error.Invalid;
        const parsed = Ip4.parse(text, host_port) catch return error.Invalid;
        return from(linux.sockaddr.in{
            .port = std.mem.nativeToBig(u16, host_port),
            .addr = @bitCast(parsed.bytes),
        });
    }

    fn parse_ipv6(text: []const u8, port: u32) error{Invalid}!SocketAddress {
        const host_port = std.math.cast(u16, port) orelse return error.Invalid;
        var plain = text;
        var scope: u32 = 0;
        if (std.mem.indexOfScalar(u8, text, '%')) |percent| {
            // Only numeric scopes: a name would need a lookup, which is the caller's business.
            scope = std.fmt.parseInt(u32, text[percent + 1 ..], 10) catch return error.Invalid;
            plain = text[0..percent];
        }
        const parsed = switch (Ip6.Unresolved.parse(plain)) {
            .success => |unresolved| unresolved.bytes,
            else => return error.Invalid,
        };
        return from(linux.sockaddr.in6{
            .port = std.mem.nativeToBig(u16, host_port),
            .flowinfo = 0,
            .addr = parsed,
            .scope_id = scope,
        });
    }

    fn parse_unix(path: []const u8) error{Invalid}!SocketAddress {
        if (path.len == 0) return error.Invalid;
        const abstract = path[0] == 0;
        // A path wants its NUL inside the 108 bytes; an abstract name is told by its length alone.
        if (!abstract and path.len >= abi.address_text_max) return error.Invalid;
        var address: SocketAddress = .{ .bytes = @splat(0), .len = 0 };
        std.mem.writeInt(u16, address.bytes[0..2], linux.AF.UNIX, .native);
        @memcpy(address.bytes[2..][0..path.len], path);
        address.len = @intCast(2 + path.len + @intFromBool(!abstract));
        return address;
    }

    fn from(value: anytype) SocketAddress {
        var address: SocketAddress = .{ .bytes = @splat(0), .len = @sizeOf(@TypeOf(value)) };
        @memcpy(address.bytes[0..@sizeOf(@TypeOf(value))], std.mem.asBytes(&value));
        return address;
    }

    pub fn print(address: *const SocketAddress, out: *abi.Address) void {
        out.* = .{ .family = .unix, .port = 0, .text_len = 0, .text = @splat(0) };
        var writer: std.Io.Writer = .fixed(&out.text);
        switch (address.family()) {
            linux.AF.INET => {
                const in = std.mem.bytesToValue(linux.sockaddr.in, &address.bytes);
                const bytes: [4]u8 = @bitCast(in.addr);
                out.family = .ipv4;
                out.port = std.mem.bigToNative(u16, in.port);
                writer.print("{d}.{d}.{d}.{d}", .{
                    bytes[0], bytes[1], bytes[2], bytes[3],
                }) catch unreachable; // 15 bytes at most
            },
            linux.AF.INET6 => {
                const in6 = std.mem.bytesToValue(linux.sockaddr.in6, &address.bytes);
                const plain: Ip6.Unresolved = .{ .bytes = in6.addr, .interface_name = null };
                out.family = .ipv6;
                out.port = std.mem.bigToNative(u16, in6.port);
                plain.format(&writer) catch unreachable; // 45 bytes at most
                if (in6.scope_id != 0) {
                    writer.print("%{d}", .{in6.scope_id}) catch unreachable; // 11 more
                }
            },
            else => {
                const end = @min(@max(address.len, 2), 2 + abi.address_text_max);
                const path = address.bytes[2..end];
                const abstract = path.len > 0 and path[0] == 0;
                const shown = if (abstract) path else std.mem.sliceTo(path, 0);
                writer.writeAll(shown) catch unreachable; // bounded by `end`
            },
        }
        out.text_len = @intCast(writer.end);
    }
};

fn text_of(family: abi.Family, port: u32, text: []const u8) abi.Address {
    var out: abi.Address = .{
        .family = family,
        .port = port,
        .text_len = @intCast(text.len),
        .text = @splat(0),
    };
    @memcpy(out.text[0..text.len], text);
    return out;
}

test "addresses survive the way to the kernel's form and back" {
    const cases = [_]abi.Address{
        text_of(.ipv4, 80, "127.0.0.1"),
        text_of(.ipv6, 65535, "::1"),
        text_of(.ipv6, 1, "fe80::1%2"),
        text_of(.ipv6, 0, "::ffff:10.0.0.1"),
        text_of(.unix, 0, "/run/echo.sock"),
        text_of(.unix, 0, "\x00abstract\x00name"),
    };
    for (cases) |case| {
        const parsed = try SocketAddress.parse(&case);
        var out: abi.Address = undefined;
        parsed.print(&out);
        try std.testing.expectEqualDeep(case, out);
    }
}

test "malformed addresses are refused" {
    const cases = [_]abi.Address{
        text_of(.ipv4, 65536, "127.0.0.1"),
        text_of(.ipv4, 80, "127.0.0"),
        text_of(.ipv4, 80, "localhost"),
        text_of(.ipv6, 80, "::g"),
        text_of(.ipv6, 80, "fe80::1%eth0"),
        text_of(.unix, 0, ""),
        text_of(.unix, 0, "/" ** 108),
    };
    for (cases) |case| {
        try std.testing.expectError(error.Invalid, SocketAddress.parse(&case));
    }
}
