//! What the environment asks of the allocator, read once before the first block. docs/SETTINGS.md is the list.
//!
//! A program with more rights than its caller (set-user-ID) does not listen to the caller's environment.

const std = @import("std");
const os = @import("os.zig");
const Line = @import("../seeing/fatal.zig").Line;

pub const Foreign = enum { abort, ignore };
pub const Fresh = enum { auto, touch, populate64, populate256, huge };
pub const Limit = union(enum) { none, bytes: usize, cgroup };
const Switch = enum { @"0", @"1" };

/// `HAKMEM_CHECK`: every block is guarded and every free examined.
pub var check: bool = false;
/// `HAKMEM_FOREIGN`: what becomes of a pointer that another allocator made.
pub var foreign: Foreign = .abort;
/// `HAKMEM_FRESH`: how fresh pages are got.
pub var fresh: Fresh = .auto;
/// `HAKMEM_LIMIT`: the most memory that the process may have from here.
pub var limit: Limit = .none;

/// Called by one thread, before the first block.
pub fn read() void {
    if (os.hasMoreRights()) return;
    const variables = os.environment() orelse return;
    check = choice(Switch, variables, "HAKMEM_CHECK", .@"0") == .@"1";
    foreign = choice(Foreign, variables, "HAKMEM_FOREIGN", .abort);
    fresh = choice(Fresh, variables, "HAKMEM_FRESH", .auto);
    limit = bytesOrCgroup(variables, "HAKMEM_LIMIT");
}

/// The value that a variable names; `default` where it is unset or empty, and, with a line that says so, where it
/// names none.
fn choice(comptime Values: type, variables: os.Environment, name: []const u8, default: Values) Values {
    const text = find(variables, name) orelse return default;
    if (text.len == 0) return default;
    if (std.meta.stringToEnum(Values, text)) |value| return value;
    var line = notUnderstood(name, text);
    for (std.meta.fieldNames(Values), 0..) |value, at| {
        if (at > 0) line.text(" or ");
        line.text(value);
    }
    line.end();
    return default;
}

/// As `choice`, for a number of bytes or the word for what the cgroup has.
fn bytesOrCgroup(variables: os.Environment, name: []const u8) Limit {
    const text = find(variables, name) orelse return .none;
    if (text.len == 0) return .none;
    if (std.mem.eql(u8, text, "cgroup")) return .cgroup;
    if (bytesOf(text)) |bytes| return .{ .bytes = bytes };
    var line = notUnderstood(name, text);
    line.text("cgroup or bytes above 0, as 500000000, 512M or 2G");
    line.end();
    return .none;
}

/// The number of bytes that a text says: digits, and a letter for a power of 1024. Null where it says none above 0.
fn bytesOf(text: []const u8) ?usize {
    const shift: u6 = switch (text[text.len - 1]) {
        'K', 'k' => 10,
        'M', 'm' => 20,
        'G', 'g' => 30,
        else => 0,
    };
    const digits = text[0 .. text.len - @intFromBool(shift != 0)];
    // What `parseInt` lets pass beyond digits.
    for (digits) |digit| if (!std.ascii.isDigit(digit)) return null;
    const number = std.fmt.parseInt(usize, digits, 10) catch return null;
    const bytes = std.math.mul(usize, number, @as(usize, 1) << shift) catch return null;
    return if (bytes == 0) null else bytes;
}

/// The line that says of a value that it names none, up to the ones that there are.
fn notUnderstood(name: []const u8, text: []const u8) Line {
    var line: Line = .{};
    line.text("hakmem: ");
    line.text(name);
    line.text("=");
    line.text(text[0..@min(text.len, 60)]);
    line.text(" is not understood, so it counts as unset; it must be ");
    return line;
}

fn find(variables: os.Environment, name: []const u8) ?[]const u8 {
    var at: usize = 0;
    while (variables[at]) |variable| : (at += 1) {
        const text = std.mem.span(variable);
        if (text.len > name.len and text[name.len] == '=' and std.mem.startsWith(u8, text, name)) {
            return text[name.len + 1 ..];
        }
    }
    return null;
}

test "settings: a variable is found by its whole name, and only a known value counts" {
    const variables = [_:null]?[*:0]const u8{ "HAKMEM_CHECKED=1", "HAKMEM_CHECK=1", "HAKMEM_FOREIGN=", "X", "=" };
    try std.testing.expectEqualStrings("1", find(&variables, "HAKMEM_CHECK").?);
    try std.testing.expectEqual(null, find(&variables, "HAKMEM"));
    try std.testing.expectEqual(null, find(&variables, "X"));
    try std.testing.expectEqual(Switch.@"1", choice(Switch, &variables, "HAKMEM_CHECK", .@"0"));
    try std.testing.expectEqual(Foreign.abort, choice(Foreign, &variables, "HAKMEM_FOREIGN", .abort));
}

test "settings: bytes are digits with or without a letter, and nothing else" {
    for ([_]struct { []const u8, usize }{
        .{ "1", 1 },
        .{ "500000000", 500_000_000 },
        .{ "007", 7 },
        .{ "64K", 64 << 10 },
        .{ "512M", 512 << 20 },
        .{ "2g", 2 << 30 },
        .{ "17179869183G", 17179869183 << 30 },
    }) |case| try std.testing.expectEqual(case[1], bytesOf(case[0]).?);
    const bad = [_][]const u8{ "0", "0M", "K", "1T", "1 M", "1MB", "-1", "+1", "1_000", "0x10", "1.5G", "17179869184G", "18446744073709551616", "max" };
    for (bad) |text| try std.testing.expectEqual(null, bytesOf(text));
    const variables = [_:null]?[*:0]const u8{ "HAKMEM_LIMIT=cgroup", "X_LIMIT=3M", "Y_LIMIT=" };
    try std.testing.expectEqual(Limit.cgroup, bytesOrCgroup(&variables, "HAKMEM_LIMIT"));
    try std.testing.expectEqual(Limit{ .bytes = 3 << 20 }, bytesOrCgroup(&variables, "X_LIMIT"));
    try std.testing.expectEqual(Limit.none, bytesOrCgroup(&variables, "Y_LIMIT"));
}
