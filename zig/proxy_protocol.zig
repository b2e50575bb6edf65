//! The PROXY protocol's header, versions 1 and 2: whose connection a proxy passes on.
//!
//! A pure parser. It says of the bytes so far: not enough, no header of any version, a malformed
//! one, or a header with its length and addresses. It is strict, as the header decides who somebody
//! is. What follows the addresses of version 2 (TLVs) counts as length and is skipped. Specified in
//! https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; used by `proxied.zig`.

const std = @import("std");
const abi = @import("abi.zig");
const SocketAddress = @import("kernel.zig").SocketAddress;

/// So many bytes decide: a line of version 1 has 107 at most, version 2 has 16 and two Unix paths.
pub const decisive_max = v2_fixed + 2 * unix_path;

const v1_max = 107;
const v2_fixed = 16;
const v2_signature = "\r\n\r\n\x00\r\nQUIT\n";
const unix_path = 108;

pub const Addresses = struct { source: SocketAddress, destination: SocketAddress };

pub const Parsed = union(enum) {
    /// So far it is the beginning of one.
    incomplete,
    /// The first bytes are those of something else.
    absent,
    malformed,
    header: Header,
};

pub const Header = struct {
    /// Of all of it, also beyond what was parsed.
    len: u32,
    /// Null: the proxy speaks for itself (LOCAL), or of what it does not know (UNKNOWN, UNSPEC).
    addresses: ?Addresses,
};

pub fn parse(bytes: []const u8) Parsed {
    if (starts(bytes, v2_signature)) return parse_v2(bytes);
    if (starts(bytes, "PROXY ")) return parse_v1(bytes);
    return .absent;
}

/// As far as there are bytes, they are those of `beginning`.
fn starts(bytes: []const u8, beginning: []const u8) bool {
    const len = @min(bytes.len, beginning.len);
    return std.mem.eql(u8, bytes[0..len], beginning[0..len]);
}

// Version 1: a line ------------------------------------------------------------------------------

fn parse_v1(bytes: []const u8) Parsed {
    const line_end = std.mem.indexOfScalar(u8, bytes[0..@min(bytes.len, v1_max)], '\n') orelse
        return if (bytes.len >= v1_max) .malformed else .incomplete;
    if (line_end == 0 or bytes[line_end - 1] != '\r') return .malformed;
    const line = bytes[0 .. line_end - 1];
    const len: u32 = @intCast(line_end + 1);
    var words = std.mem.splitScalar(u8, line, ' ');
    _ = words.next(); // "PROXY"
    const protocol = words.next() orelse return .malformed;
    // What follows it is to be ignored.
    if (std.mem.eql(u8, protocol, "UNKNOWN")) return .{ .header = .{
        .len = len,
        .addresses = null,
    } };
    const family: abi.Family = if (std.mem.eql(u8, protocol, "TCP4"))
        .ipv4
    else if (std.mem.eql(u8, protocol, "TCP6"))
        .ipv6
    else
        return .malformed;
    const source_host = words.next() orelse return .malformed;
    const destination_host = words.next() orelse return .malformed;
    const source_port = port_of(words.next() orelse return .malformed) orelse return .malformed;
    const destination_port = port_of(words.next() orelse return .malformed) orelse
        return .malformed;
    if (words.next() != null) return .malformed;
    return .{ .header = .{ .len = len, .addresses = .{
        .source = address_of(family, source_host, source_port) orelse return .malformed,
        .destination = address_of(family, destination_host, destination_port) orelse
            return .malformed,
    } } };
}

/// Decimal, without a sign, without leading zeros.
fn port_of(text: []const u8) ?u32 {
    if (text.len == 0 or text.len > 5) return null;
    if (text[0] == '0' and text.len > 1) return null;
    for (text) |character| if (!std.ascii.isDigit(character)) return null;
    return std.fmt.parseInt(u16, text, 10) catch null;
}

fn address_of(family: abi.Family, host: []const u8, port: u32) ?SocketAddress {
    if (host.len > abi.address_text_max) return null;
    // A zone means something only on the proxy's machine.
    if (std.mem.indexOfScalar(u8, host, '%') != null) return null;
    var address: abi.Address = .{
        .family = family,
        .port = port,
        .text_len = @intCast(host.len),
        .text = @splat(0),
    };
    @memcpy(address.text[0..host.len], host);
    return SocketAddress.parse(&address) catch null;
}

// Version 2: binary ------------------------------------------------------------------------------

///     | signature 12 | version 4 bits, command 4 | family 4, transport 4 | length 16 | addresses …
fn parse_v2(bytes: []const u8) Parsed {
    // What is wrong already is not waited for.
    if (bytes.len > 12 and bytes[12] >> 4 != 2) return .malformed;
    if (bytes.len > 12 and bytes[12] & 0xf > 1) return .malformed;
    if (bytes.len < v2_fixed) return .incomplete;
    const is_local = bytes[12] & 0xf == 0;
    const size = std.mem.readInt(u16, bytes[14..16], .big);
    const nobody: Parsed = .{ .header = .{ .len = v2_fixed + @as(u32, size), .addresses = null } };
    if (is_local) return nobody;
    const family = bytes[13] >> 4;
    if (family > 3 or bytes[13] & 0xf > 2) return .malformed;
    if (family == 0) return nobody;
    const needed: u16 = switch (family) {
        1 => 12,
        2 => 36,
        else => 2 * unix_path,
    };
    if (size < needed) return .malformed;
    if (bytes.len < v2_fixed + needed) return .incomplete;
    const block = bytes[v2_fixed..][0..needed];
    return .{ .header = .{
        .len = v2_fixed + @as(u32, size),
        .addresses = switch (family) {
            1 => .{
                .source = .ipv4_from(block[0..4], block[8..10]),
                .destination = .ipv4_from(block[4..8], block[10..12]),
            },
            2 => .{
                .source = .ipv6_from(block[0..16], block[32..34]),
                .destination = .ipv6_from(block[16..32], block[34..36]),
            },
            else => .{
                .source = .unix_from(block[0..unix_path]),
                .destination = .unix_from(block[unix_path..][0..unix_path]),
            },
        },
    } };
}

// Tests ------------------------------------------------------------------------------------------

const testing = std.testing;

fn expect_addresses(bytes: []const u8, source: []const u8, destination: []const u8) !void {
    const header = parse(bytes).header;
    try testing.expectEqual(bytes.len, header.len);
    try expect_text(&header.addresses.?.source, source);
    try expect_text(&header.addresses.?.destination, destination);
}

fn expect_text(address: *const SocketAddress, expected: []const u8) !void {
    var out: abi.Address = undefined;
    address.print(&out);
    var buffer: [160]u8 = undefined;
    const text = try std.fmt.bufPrint(&buffer, "{s} {d}", .{
        out.text[0..out.text_len], out.port,
    });
    try testing.expectEqualStrings(expected, text);
}

const v2_ipv4 = v2_signature ++ "\x21\x11\x00\x0c" ++ "\x0a\x00\x00\x01\x7f\x00\x00\x02" ++
    "\x30\x39\x01\xbb";
const v2_ipv6 = v2_signature ++ "\x21\x21\x00\x24" ++
    "\x20\x01\x0d\xb8" ++ "\x00" ** 11 ++ "\x01" ++ "\x00" ** 15 ++ "\x01" ++ "\x00\x50\xff\xff";
const v2_unix = v2_signature ++ "\x21\x31\x00\xd8" ++
    "/run/client" ++ "\x00" ** 97 ++ "\x00abstract" ++ "\x00" ** 99;

test "headers of both versions yield the addresses that they name" {
    try expect_addresses(
        "PROXY TCP4 192.0.2.1 198.51.100.255 56324 443\r\n",
        "192.0.2.1 56324",
        "198.51.100.255 443",
    );
    try expect_addresses("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", "2001:db8::1 0", "::1 65535");
    try expect_addresses(v2_ipv4, "10.0.0.1 12345", "127.0.0.2 443");
    try expect_addresses(v2_ipv6, "2001:db8::1 80", "::1 65535");
    try expect_addresses(v2_unix, "/run/client 0", "\x00abstract 0");
    // The longest line of version 1: its end is the last byte that may be one.
    const longest = "PROXY TCP6 " ++ "ffff:f:f:f:f:f:f:ffff " ** 2 ++ "65535 65535\r\n";
    try expect_addresses(longest, "ffff:f:f:f:f:f:f:ffff 65535", "ffff:f:f:f:f:f:f:ffff 65535");
}

test "a proxy that speaks for itself, or of the unknown, names nobody" {
    const unknown = "PROXY UNKNOWN ffff::1 whatever this is 7\r\n";
    const local = v2_signature ++ "\x20\x00\x00\x00";
    const local_of_nothing_known = v2_signature ++ "\x20\xff\x00\x03abc";
    const unspecified = v2_signature ++ "\x21\x00\x00\x05\x01\x02\x03\x04\x05";
    const short = "PROXY UNKNOWN\r\n";
    for ([_][]const u8{ unknown, local, local_of_nothing_known, unspecified, short }) |bytes| {
        const header = parse(bytes).header;
        try testing.expectEqual(bytes.len, header.len);
        try testing.expectEqual(null, header.addresses);
    }
}

test "what follows the addresses of version 2 is part of the header and is not looked at" {
    const tlvs = "\x03\x00\x04abcd" ++ "\xff\xff\xff";
    const bytes = v2_signature ++ "\x21\x11\x00\x16" ++ v2_ipv4[16..] ++ tlvs;
    try testing.expectEqual(bytes.len, parse(bytes).header.len);
    // Its length is known before its end has come.
    try testing.expectEqual(bytes.len, parse(bytes[0..28]).header.len);
    try testing.expectEqual(16 + 65535, parse(v2_signature ++ "\x20\x00\xff\xff").header.len);
}

test "every beginning is incomplete, every byte behind is somebody else's" {
    const unknown = "PROXY UNKNOWN\r\n";
    const line = "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n";
    for ([_][]const u8{ line, unknown, v2_ipv4, v2_ipv6, v2_unix }) |bytes| {
        for (0..bytes.len) |len| {
            try testing.expectEqual(.incomplete, std.meta.activeTag(parse(bytes[0..len])));
        }
        var more: [400]u8 = @splat('\n');
        @memcpy(more[0..bytes.len], bytes);
        try testing.expectEqual(bytes.len, parse(more[0 .. bytes.len + 50]).header.len);
    }
}

test "what is no header is told at the first byte that says so" {
    for ([_][]const u8{ "GET / HTTP/1.1\r\n", "\x16\x03\x01", "PROXI", "\n\r", "P " }) |bytes| {
        try testing.expectEqual(.absent, std.meta.activeTag(parse(bytes)));
    }
    const long = "PROXY UNKNOWN " ++ "x" ** 200;
    for ([_][]const u8{
        "PROXY \r\n",                          "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",    "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",          "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP6 fe80::1%1 ::1 1 1\r\n",    "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4\r\n",              "PROXY UNKNOWN\n",
        long[0..107],                          long,
        v2_signature ++ "\x11",                v2_signature ++ "\x22",
        v2_signature ++ "\x21\x41\x00\x0c",    v2_signature ++ "\x21\x13\x00\x0c",
        v2_signature ++ "\x21\x11\x00\x0b",    v2_signature ++ "\x21\x21\x00\x23",
        v2_signature ++ "\x21\x31\x00\xd7",
    }) |bytes| {
        errdefer std.debug.print("{s}\n", .{bytes});
        try testing.expectEqual(.malformed, std.meta.activeTag(parse(bytes)));
    }
}

test "no bytes harm it, and more of them never unsay what it said" {
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    const random = prng.random();
    const seeds = [_][]const u8{
        "PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", "PROXY UNKNOWN\r\n", v2_ipv4, v2_ipv6, v2_unix,
    };
    for (0..50_000) |_| {
        var bytes: [400]u8 = undefined;
        random.bytes(&bytes);
        // Nearly right: a header with a few bytes changed.
        const seed = seeds[random.uintLessThan(usize, seeds.len)];
        @memcpy(bytes[0..seed.len], seed);
        for (0..random.uintLessThan(usize, 4)) |_| {
            bytes[random.uintLessThan(usize, seed.len)] = random.int(u8);
        }
        var said: ?Parsed = null;
        for (0..bytes.len) |len| {
            const parsed = parse(bytes[0..len]);
            if (said) |before| {
                const before_kind = std.meta.activeTag(before);
                try testing.expectEqual(before_kind, std.meta.activeTag(parsed));
                if (before != .header) continue;
                try testing.expectEqual(before.header.len, parsed.header.len);
            } else if (parsed != .incomplete) {
                try testing.expect(len <= decisive_max);
                said = parsed;
            }
        }
        try testing.expect(said != null);
    }
}
