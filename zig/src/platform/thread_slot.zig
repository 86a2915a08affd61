//! How a thread finds its heap: one pointer-sized slot a thread, which starts with the address of the empty
//! heap, so that the fast path needs no test for null.
//!
//! The preload object uses one initial-exec slot, reached by two instructions; Zig has no TLS-model option,
//! so the slot is declared and read in assembly. That sets STATIC_TLS, which a late dlopen may refuse, so the
//! object made for dlopen uses an ordinary `threadlocal`, as do platforms without the assembly below.

const std = @import("std");
const builtin = @import("builtin");
const build_options = @import("build_options");
const atomic = @import("atomic.zig");
const Heap = @import("../allocator/heap.zig").Heap;
const empty_heap = &@import("../allocator/heap.zig").empty_heap;

const in_assembly = build_options.initial_exec_slot and !builtin.is_test and
    builtin.os.tag == .linux and (builtin.cpu.arch == .x86_64 or builtin.cpu.arch == .aarch64);

threadlocal var portable_slot: *Heap = @constCast(empty_heap);

comptime {
    if (in_assembly) {
        @export(empty_heap, .{ .name = "hakmem_empty_heap", .visibility = .hidden });
        asm (
            \\.section .tdata,"awT",%progbits
            \\.balign 8
            \\.hidden hakmem_thread_slot
            \\.globl hakmem_thread_slot
            \\.type hakmem_thread_slot, %object
            \\.size hakmem_thread_slot, 8
            \\hakmem_thread_slot:
            \\  .quad hakmem_empty_heap
            \\.text
        );
    }
}

/// The heap of this thread: its own, the empty heap before its first slow path, or the dead heap after
/// its end.
pub inline fn get() *Heap {
    if (!in_assembly) return address().*;
    return switch (builtin.cpu.arch) {
        .x86_64 => asm (
            \\movq hakmem_thread_slot@GOTTPOFF(%%rip), %[heap]
            \\movq %%fs:(%[heap]), %[heap]
            : [heap] "=r" (-> *Heap),
        ),
        .aarch64 => aarch64: {
            var base: usize = undefined;
            break :aarch64 asm (
                \\adrp %[heap], :gottprel:hakmem_thread_slot
                \\ldr %[heap], [%[heap], :gottprel_lo12:hakmem_thread_slot]
                \\mrs %[base], tpidr_el0
                \\ldr %[heap], [%[base], %[heap]]
                : [heap] "=&r" (-> *Heap),
                  [base] "=&r" (base),
            );
        },
        else => unreachable,
    };
}

pub inline fn set(heap: *Heap) void {
    address().* = heap;
}

/// A number that no other living thread has: the address of this thread's slot.
pub inline fn threadMark() usize {
    return @intFromPtr(address());
}

inline fn address() **Heap {
    if (atomic.explored) return @ptrCast(atomic.explorer.slot(@intFromPtr(empty_heap)));
    if (!in_assembly) return &portable_slot;
    return switch (builtin.cpu.arch) {
        .x86_64 => asm volatile (
            \\movq hakmem_thread_slot@GOTTPOFF(%%rip), %[slot]
            \\addq %%fs:0, %[slot]
            : [slot] "=r" (-> **Heap),
        ),
        .aarch64 => aarch64: {
            var base: usize = undefined;
            break :aarch64 asm volatile (
                \\adrp %[slot], :gottprel:hakmem_thread_slot
                \\ldr %[slot], [%[slot], :gottprel_lo12:hakmem_thread_slot]
                \\mrs %[base], tpidr_el0
                \\add %[slot], %[base], %[slot]
                : [slot] "=&r" (-> **Heap),
                  [base] "=&r" (base),
            );
        },
        else => unreachable,
    };
}
