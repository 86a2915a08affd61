//! What the programs that measure an allocator share: memory of their own that is no allocator's, RSS,
//! clocks, and output as lines of JSON.
//!
//! Nothing here calls malloc, so the allocator under test, whichever was preloaded, serves exactly what
//! is measured.

const std = @import("std");
const linux = std.os.linux;

pub extern "c" fn malloc(size: usize) ?[*]u8;
pub extern "c" fn free(block: ?*anyopaque) void;
pub extern "c" fn dlsym(handle: ?*anyopaque, name: [*:0]const u8) ?*anyopaque;

/// A block of which nobody has the address yet; the program ends with one line where memory runs out.
pub inline fn allocate(size: usize) [*]u8 {
    return malloc(size) orelse outOfMemory(size);
}

pub noinline fn outOfMemory(size: usize) noreturn {
    fail("the allocator gave no block of {d} bytes: run a smaller row, or free memory", .{size});
}

/// Tells the compiler that somebody may read and write what `pointer` points to, so that it keeps the
/// writes to a block that is only freed afterwards. Costs no instruction.
pub inline fn escape(pointer: anytype) void {
    asm volatile (""
        :
        : [pointer] "r" (pointer),
        : .{ .memory = true });
}

/// The byte that block `index` is filled with. Neighbouring indexes differ, so that overlap shows.
pub inline fn fillOf(index: usize) u8 {
    return @truncate((@as(u64, index) *% 0x9E37_79B9_7F4A_7C15) >> 56);
}

// ---- arguments ----

pub fn valueOf(argument: []const u8, name: []const u8) ?[]const u8 {
    return if (std.mem.startsWith(u8, argument, name)) argument[name.len..] else null;
}

pub fn parseNumber(comptime T: type, text: []const u8) T {
    return std.fmt.parseInt(T, text, 10) catch badArgument(text);
}

pub fn badArgument(argument: []const u8) noreturn {
    fail("cannot use argument '{s}'", .{argument});
}

// ---- memory of the program itself ----

/// Maps `bytes` of private memory of small pages and touches every page.
pub fn mapTouched(bytes: usize) [*]u8 {
    const memory = mapUntouched(bytes);
    touchForWriting(memory, bytes);
    return memory;
}

/// Maps `bytes` of private memory of small pages.
pub fn mapUntouched(bytes: usize) [*]u8 {
    const address = linux.mmap(null, bytes, .{ .READ = true, .WRITE = true }, .{ .TYPE = .PRIVATE, .ANONYMOUS = true }, -1, 0);
    switch (linux.errno(address)) {
        .SUCCESS => {},
        else => |errno| fail("cannot map {d} bytes for the driver itself: {s}", .{ bytes, @tagName(errno) }),
    }
    const memory: [*]u8 = @ptrFromInt(address);
    // With huge pages the array's share of the base figure would depend on alignment. A kernel without
    // huge pages refuses the advice, which is then not needed.
    _ = linux.madvise(memory, bytes, linux.MADV.NOHUGEPAGE);
    return memory;
}

/// Touches and unmaps `bytes`, so that the machine beneath a virtual one has given us that much memory
/// before the clock runs.
pub fn warmMemory(bytes: usize) void {
    if (bytes == 0) return;
    const memory = mapTouched(bytes);
    _ = linux.munmap(memory, bytes);
}

/// Writes a byte of every page.
fn touchForWriting(memory: [*]u8, bytes: usize) void {
    const volatile_memory: [*]volatile u8 = memory;
    var offset: usize = 0;
    while (offset < bytes) : (offset += std.heap.page_size_min) volatile_memory[offset] = 1;
}

/// Reads a byte of every page of code and constants of this program, of the C library and of the object
/// that `malloc` is in. Else the kernel maps them in windows as they are first used, which would be
/// counted as the allocator's memory, and by an amount that varies with address randomisation: up to
/// 64 KiB a time. What the objects write to is left alone, as that is memory the allocator uses.
pub fn touchCode() void {
    // "exit" stands for the C library, as an allocator has none.
    var used = [_]usize{ @intFromPtr(&touchCode), @intFromPtr(dlsym(null, "malloc")), @intFromPtr(dlsym(null, "exit")) };
    _ = std.c.dl_iterate_phdr(&touchObject, &used);
}

/// Called for each loaded object; touches it if one of three addresses lies in it.
fn touchObject(object: *std.c.dl_phdr_info, _: usize, data: ?*anyopaque) callconv(.c) c_int {
    const used: *const [3]usize = @ptrCast(@alignCast(data));
    const headers = object.phdr[0..object.phnum];
    for (headers) |header| {
        if (header.type == .LOAD and containsAny(object.addr +% header.vaddr, header.memsz, used)) break;
    } else return 0;
    for (headers) |header| {
        if (header.type != .LOAD or header.flags.W or !header.flags.R) continue;
        const segment: [*]const volatile u8 = @ptrFromInt(object.addr +% header.vaddr);
        var offset: usize = 0;
        while (offset < header.memsz) : (offset += std.heap.page_size_min) _ = segment[offset];
    }
    return 0;
}

fn containsAny(start: usize, length: usize, addresses: []const usize) bool {
    for (addresses) |address| {
        if (address -% start < length) return true;
    }
    return false;
}

// ---- figures ----

/// RSS of this process in bytes, from `/proc/self/smaps_rollup`.
pub fn residentBytes() u64 {
    const static = struct {
        var text: [4096]u8 = undefined;
    };
    const descriptor = linux.open("/proc/self/smaps_rollup", .{ .ACCMODE = .RDONLY }, 0);
    switch (linux.errno(descriptor)) {
        .SUCCESS => {},
        else => |errno| fail("cannot read /proc/self/smaps_rollup: {s}", .{@tagName(errno)}),
    }
    var length: usize = 0;
    while (length < static.text.len) {
        const got = linux.read(@intCast(descriptor), static.text[length..].ptr, static.text.len - length);
        switch (linux.errno(got)) {
            .SUCCESS => {},
            .INTR => continue,
            else => |errno| fail("cannot read /proc/self/smaps_rollup: {s}", .{@tagName(errno)}),
        }
        if (got == 0) break;
        length += got;
    }
    _ = linux.close(@intCast(descriptor));

    var lines = std.mem.tokenizeScalar(u8, static.text[0..length], '\n');
    while (lines.next()) |line| {
        const rest = valueOf(line, "Rss:") orelse continue;
        const kibibytes = std.mem.trim(u8, rest, " kB");
        return 1024 * (std.fmt.parseInt(u64, kibibytes, 10) catch break);
    }
    fail("/proc/self/smaps_rollup has no usable line 'Rss:'", .{});
}

/// CPU time of all threads of this process.
pub fn cpuTimeNs() u64 {
    return clockNs(.PROCESS_CPUTIME_ID);
}

/// Time on a clock that only moves forward.
pub fn wallTimeNs() u64 {
    return clockNs(.MONOTONIC);
}

fn clockNs(clock: linux.clockid_t) u64 {
    var time: linux.timespec = undefined;
    switch (linux.errno(linux.clock_gettime(clock, &time))) {
        .SUCCESS => {},
        else => |errno| fail("cannot read the clock {s}: {s}", .{ @tagName(clock), @tagName(errno) }),
    }
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

// ---- output ----

/// Prints `{"error": …}` and ends the process with status 1.
pub fn fail(comptime format: []const u8, arguments: anytype) noreturn {
    var message_buffer: [512]u8 = undefined;
    const message = std.fmt.bufPrint(&message_buffer, format, arguments) catch "the error's own message is too long";
    var line: Line = .{};
    line.print("{{\"error\":", .{});
    line.string(message);
    line.print("}}\n", .{});
    // One line, also when several threads find something at once: the others wait for the end.
    while (failing.swap(true, .acq_rel)) _ = linux.pause();
    line.send();
    linux.exit_group(1);
}

var failing: std.atomic.Value(bool) = .init(false);

/// One line of output, built in place and written at once. What does not fit is cut, and the CLI then
/// says that the line is no JSON; the longest part, a path, is at most `PATH_MAX`.
pub const Line = struct {
    text: [16 * 1024]u8 = undefined,
    length: usize = 0,

    pub fn print(line: *Line, comptime format: []const u8, arguments: anytype) void {
        const written = std.fmt.bufPrint(line.text[line.length..], format, arguments) catch "";
        line.length += written.len;
    }

    pub fn string(line: *Line, text: []const u8) void {
        line.print("\"", .{});
        for (text) |byte| switch (byte) {
            '"', '\\' => line.print("\\{c}", .{byte}),
            0...0x1f => line.print("\\u{x:0>4}", .{byte}),
            else => line.print("{c}", .{byte}),
        };
        line.print("\"", .{});
    }

    pub fn optionalString(line: *Line, text: ?[]const u8) void {
        if (text) |present| line.string(present) else line.print("null", .{});
    }

    pub fn send(line: *const Line) void {
        var sent: usize = 0;
        while (sent < line.length) {
            const wrote = linux.write(1, line.text[sent..].ptr, line.length - sent);
            switch (linux.errno(wrote)) {
                .SUCCESS => sent += wrote,
                .INTR => {},
                else => linux.exit_group(1),
            }
        }
    }
};
