//! The memory limit of the cgroups that the process is in: the lowest of its own and of those around it, version 2
//! (`memory.max`) and 1 (`memory.limit_in_bytes`), where Linux distributions and containers have them mounted.
//!
//! In a container the paths in /proc/self/cgroup may be those that the host sees. Going up from them ends at the root
//! of what is mounted, which is the container's own cgroup, so its limit is found all the same.

const std = @import("std");
const os = @import("os.zig");

const v2_root = "/sys/fs/cgroup";
const v1_root = "/sys/fs/cgroup/memory";
const v2_file = "/memory.max";
const v1_file = "/memory.limit_in_bytes";

/// Longer lists and paths do not occur. What of them is not read is not found.
const list_bytes_max = 8192;
const path_bytes_max = 1024;

/// Version 1 says that there is no limit by the highest number of whole pages.
const limit_max = 1 << 62;

/// Null where no limit is found.
pub noinline fn limitBytes() ?usize {
    return lowest(os.readFile);
}

fn lowest(comptime read: fn ([*:0]const u8, []u8) ?[]const u8) ?usize {
    var buffer: [list_bytes_max]u8 = undefined;
    const list = read("/proc/self/cgroup", &buffer) orelse return null;
    var least: ?usize = null;
    var lines = std.mem.splitScalar(u8, list, '\n');
    while (lines.next()) |line| {
        const place = placeOf(line) orelse continue;
        var path = place.path;
        while (true) {
            if (limitAt(read, place.root, path, place.file)) |bytes| least = @min(bytes, least orelse bytes);
            const end = std.mem.findScalarLast(u8, path, '/') orelse break;
            path = path[0..end];
        }
    }
    return least;
}

const Place = struct {
    root: []const u8,
    /// Of a cgroup below the root; empty for the root itself.
    path: []const u8,
    file: []const u8,
};

/// Where the limits are for a line of /proc/self/cgroup: a number, controllers, and a path. Null where it has none.
fn placeOf(line: []const u8) ?Place {
    var parts = std.mem.splitScalar(u8, line, ':');
    const number = parts.next().?;
    const controllers = parts.next() orelse return null;
    const path = pathBelowRoot(parts.rest());
    if (std.mem.eql(u8, number, "0") and controllers.len == 0) return .{ .root = v2_root, .path = path, .file = v2_file };
    var names = std.mem.splitScalar(u8, controllers, ',');
    while (names.next()) |name| {
        if (std.mem.eql(u8, name, "memory")) return .{ .root = v1_root, .path = path, .file = v1_file };
    }
    return null;
}

/// What lies beyond the root of what the process sees ("/../…") cannot be looked at from here.
fn pathBelowRoot(path: []const u8) []const u8 {
    if (path.len < 2 or path[0] != '/' or std.mem.startsWith(u8, path, "/..")) return "";
    return path;
}

fn limitAt(comptime read: fn ([*:0]const u8, []u8) ?[]const u8, root: []const u8, path: []const u8, file: []const u8) ?usize {
    var name: [path_bytes_max:0]u8 = undefined;
    if (root.len + path.len + file.len > name.len) return null;
    var length: usize = 0;
    for ([_][]const u8{ root, path, file }) |part| {
        @memcpy(name[length..][0..part.len], part);
        length += part.len;
    }
    name[length] = 0;
    var buffer: [32]u8 = undefined;
    return bytesIn(read(&name, &buffer) orelse return null);
}

/// The number in such a file; null for "max", and for what means no limit.
fn bytesIn(text: []const u8) ?usize {
    const bytes = std.fmt.parseInt(usize, std.mem.trim(u8, text, " \n"), 10) catch return null;
    return if (bytes < limit_max) bytes else null;
}

/// Files as a test has them, instead of the system's.
fn Files(comptime files: []const [2][]const u8) type {
    return struct {
        fn read(path: [*:0]const u8, buffer: []u8) ?[]const u8 {
            for (files) |file| {
                if (!std.mem.eql(u8, file[0], std.mem.span(path))) continue;
                const length = @min(buffer.len, file[1].len);
                @memcpy(buffer[0..length], file[1][0..length]);
                return buffer[0..length];
            }
            return null;
        }
    };
}

fn expectLowest(expected: ?usize, comptime files: []const [2][]const u8) !void {
    try std.testing.expectEqual(expected, lowest(Files(files).read));
}

test "cgroup: version 2, the lowest limit of the own cgroup and those around it" {
    const own: [2][]const u8 = .{ "/proc/self/cgroup", "0::/user.slice/job.scope\n" };
    try expectLowest(1 << 30, &.{ own, .{ "/sys/fs/cgroup/user.slice/job.scope/memory.max", "1073741824\n" } });
    try expectLowest(500, &.{
        own,
        .{ "/sys/fs/cgroup/user.slice/job.scope/memory.max", "max\n" },
        .{ "/sys/fs/cgroup/user.slice/memory.max", "500\n" },
    });
    try expectLowest(400, &.{
        own,
        .{ "/sys/fs/cgroup/user.slice/job.scope/memory.max", "400\n" },
        .{ "/sys/fs/cgroup/user.slice/memory.max", "500\n" },
        .{ "/sys/fs/cgroup/memory.max", "600\n" },
    });
    // A container sees its own cgroup as the root, or is told where the host has it.
    const root: [2][]const u8 = .{ "/sys/fs/cgroup/memory.max", "700\n" };
    try expectLowest(700, &.{ .{ "/proc/self/cgroup", "0::/\n" }, root });
    try expectLowest(700, &.{ .{ "/proc/self/cgroup", "0::/system.slice/docker-1.scope\n" }, root });
    try expectLowest(700, &.{ .{ "/proc/self/cgroup", "0::/../other\n" }, root, .{ "/sys/fs/cgroup/../other/memory.max", "1" } });
}

test "cgroup: version 1, alone or beside version 2" {
    const list = "9:name=systemd:/memory\n4:cpu,memory:/docker/1\n3:memoryless:/x\n0::/\n";
    try expectLowest(800, &.{
        .{ "/proc/self/cgroup", list },
        .{ "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "9223372036854771712\n" },
        .{ "/sys/fs/cgroup/memory/memory.limit_in_bytes", "800\n" },
    });
    try expectLowest(300, &.{
        .{ "/proc/self/cgroup", list },
        .{ "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "800\n" },
        .{ "/sys/fs/cgroup/memory.max", "300\n" },
        .{ "/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1\n" },
    });
}

test "cgroup: no limit, no files, and lines that are none of those known" {
    try expectLowest(null, &.{});
    try expectLowest(null, &.{.{ "/proc/self/cgroup", "0::/a\n" }});
    try expectLowest(null, &.{ .{ "/proc/self/cgroup", "0::/a\n" }, .{ "/sys/fs/cgroup/a/memory.max", "max\n" } });
    try expectLowest(null, &.{ .{ "/proc/self/cgroup", "0::/a\n" }, .{ "/sys/fs/cgroup/a/memory.max", "" } });
    try expectLowest(null, &.{
        .{ "/proc/self/cgroup", "4:memory:/a\n" },
        .{ "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n" },
    });
    for ([_][]const u8{ "", "0", "0:", "memory", "::", "4:cpu:/a" }) |line| {
        const place = placeOf(line);
        if (place != null) try std.testing.expectEqualStrings("", place.?.path);
    }
    // A path that is too long is passed over; the cgroups around it are not.
    try expectLowest(900, &.{
        .{ "/proc/self/cgroup", "0::/a/" ++ @as([2000]u8, @splat('b')) ++ "\n" },
        .{ "/sys/fs/cgroup/a/memory.max", "900\n" },
    });
}

test "cgroup: files that the system refuses to read are none" {
    defer os.refusal = .{};
    os.refusal = .{ .refuse_from = 1, .refuse_count = std.math.maxInt(usize) };
    try std.testing.expectEqual(null, limitBytes());
    try std.testing.expect(os.refusal.refused.contains(.read_file));
    // Every file but the first.
    os.refusal = .{ .refuse_from = 2, .refuse_count = std.math.maxInt(usize) };
    try std.testing.expectEqual(null, limitBytes());
}
