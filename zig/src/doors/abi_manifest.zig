//! The ABI manifest: a description in JSON of every `hak_*` function, the results enum and `struct hak_stats`,
//! made at compile time from the functions themselves, so it cannot differ from what is exported.
//!
//! Hosts that cannot read C headers (Deno) make their symbol tables from it.

const std = @import("std");
const build_options = @import("build_options");
const hak_door = @import("hak_door.zig");
const Stats = @import("../seeing/stats.zig").Stats;

pub const text: [:0]const u8 = makeText();

fn makeText() [:0]const u8 {
    @setEvalBranchQuota(100_000);
    var json: []const u8 = "{\"schema\":\"hakmem.abi/1\",\"version\":\"" ++ build_options.version ++ "\",\"functions\":[";
    for (hak_door.functions, 0..) |function, number| {
        const info = @typeInfo(@typeInfo(@TypeOf(function[1])).pointer.child).@"fn";
        if (number > 0) json = json ++ ",";
        json = json ++ "{\"name\":\"" ++ function[0] ++ "\",\"result\":" ++ typeName(info.return_type.?) ++ ",\"parameters\":[";
        for (info.param_types, function[2], 0..) |Parameter, name, position| {
            if (position > 0) json = json ++ ",";
            json = json ++ "{\"name\":\"" ++ name ++ "\",\"type\":" ++ typeName(Parameter.?) ++ "}";
        }
        json = json ++ "]}";
    }
    json = json ++ "],\"results\":[";
    const results = @typeInfo(hak_door.Result).@"enum";
    for (results.field_names, results.field_values, 0..) |name, value, number| {
        if (number > 0) json = json ++ ",";
        json = json ++ std.fmt.comptimePrint("{{\"name\":\"{s}\",\"value\":{d}}}", .{ name, value });
    }
    json = json ++ std.fmt.comptimePrint("],\"stats\":{{\"bytes\":{d},\"fields\":[", .{@sizeOf(Stats)});
    for (@typeInfo(Stats).@"struct".field_names, 0..) |name, number| {
        if (number > 0) json = json ++ ",";
        json = json ++ std.fmt.comptimePrint("{{\"name\":\"{s}\",\"offset\":{d}}}", .{ name, @offsetOf(Stats, name) });
    }
    const whole = json ++ "]}}";
    return whole ++ "";
}

/// The C type, as a JSON string.
fn typeName(comptime T: type) []const u8 {
    return switch (T) {
        void => "\"void\"",
        usize => "\"size_t\"",
        c_int => "\"int\"",
        hak_door.Result => "\"enum hak_result\"",
        ?*anyopaque => "\"void *\"",
        [*]?*anyopaque => "\"void **\"",
        [*:0]const u8 => "\"const char *\"",
        else => @compileError("no C type for " ++ @typeName(T)),
    };
}

test "abi_manifest: is JSON that names every function once" {
    const parsed = try std.json.parseFromSlice(std.json.Value, std.testing.allocator, text, .{});
    defer parsed.deinit();
    const listed = parsed.value.object.get("functions").?.array.items;
    try std.testing.expectEqual(hak_door.functions.len, listed.len);
    inline for (hak_door.functions, 0..) |function, number| {
        try std.testing.expectEqualStrings(function[0], listed[number].object.get("name").?.string);
        try std.testing.expectEqual(function[2].len, listed[number].object.get("parameters").?.array.items.len);
    }
}
