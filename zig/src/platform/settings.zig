//! What the environment asks of the allocator, read once before the first block. docs/SETTINGS.md is the list.
//!
//! A program with more rights than its caller (set-user-ID) does not listen to the caller's environment.

const std = @import("std");
const os = @import("os.zig");
const Line = @import("../seeing/fatal.zig").Line;

pub const Foreign = enum { abort, ignore };
pub const Fresh = enum { auto, touch, populate64, populate256, huge };
const Switch = enum { @"0", @"1" };

/// `HAKMEM_CHECK`: every block is guarded and every free examined.
pub var check: bool = false;
/// `HAKMEM_FOREIGN`: what becomes of a pointer that another allocator made.
pub var foreign: Foreign = .abort;
/// `HAKMEM_FRESH`: how fresh pages are got.
pub var fresh: Fresh = .auto;

/// Called by one thread, before the first block.
pub fn read() void {
    if (os.hasMoreRights()) return;
    const variables = os.environment() orelse return;
    check = choice(Switch, variables, "HAKMEM_CHECK", .@"0") == .@"1";
    foreign = choice(Foreign, variables, "HAKMEM_FOREIGN", .abort);
    fresh = choice(Fresh, variables, "HAKMEM_FRESH", .auto);
}

/// The value that a variable names; `default` where it is unset or empty, and, with a line that says so, where it
/// names none.
fn choice(comptime Values: type, variables: os.Environment, name: []const u8, default: Values) Values {
    const text = find(variables, name) orelse return default;
    if (text.len == 0) return default;
    if (std.meta.stringToEnum(Values, text)) |value| return value;
    var line: Line = .{};
    line.text("hakmem: ");
    line.text(name);
    line.text("=");
    line.text(text[0..@min(text.len, 60)]);
    line.text(" is not understood, so it counts as unset; it must be ");
    for (std.meta.fieldNames(Values), 0..) |value, at| {
        if (at > 0) line.text(" or ");
        line.text(value);
    }
    line.end();
    return default;
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
