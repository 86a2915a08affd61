//! The queue through which blocks change threads.

const std = @import("std");
const Block = @import("shared.zig").Block;

/// A bounded queue that any number of threads push and pop without a lock, after Vyukov. Each
/// cell's turn says whose it is: its index plus twice the round, plus one while it is full.
pub const Queue = struct {
    pub const capacity = 1024;
    const Cell = struct { turn: std.atomic.Value(usize), block: Block };

    push_position: std.atomic.Value(usize) align(64),
    pop_position: std.atomic.Value(usize) align(64),
    cells: [capacity]Cell align(64),

    pub fn init(self: *Queue) void {
        self.push_position = .init(0);
        self.pop_position = .init(0);
        for (&self.cells, 0..) |*cell, index| cell.turn = .init(index);
    }

    /// False when the queue is full.
    pub fn push(self: *Queue, block: Block) bool {
        var position = self.push_position.load(.monotonic);
        while (true) {
            const cell = &self.cells[position % capacity];
            // Pairs with the release in `pop`: the cell's former block has been read.
            const turn = cell.turn.load(.acquire);
            if (turn == position) {
                position = self.push_position.cmpxchgWeak(position, position + 1, .monotonic, .monotonic) orelse {
                    cell.block = block;
                    cell.turn.store(position + 1, .release);
                    return true;
                };
            } else if (turn < position) {
                return false;
            } else {
                position = self.push_position.load(.monotonic);
            }
        }
    }

    /// Null when the queue is empty.
    pub fn pop(self: *Queue) ?Block {
        var position = self.pop_position.load(.monotonic);
        while (true) {
            const cell = &self.cells[position % capacity];
            // Pairs with the release in `push`: the block and its bytes are seen.
            const turn = cell.turn.load(.acquire);
            if (turn == position + 1) {
                position = self.pop_position.cmpxchgWeak(position, position + 1, .monotonic, .monotonic) orelse {
                    const block = cell.block;
                    cell.turn.store(position + capacity, .release);
                    return block;
                };
            } else if (turn < position + 1) {
                return null;
            } else {
                position = self.pop_position.load(.monotonic);
            }
        }
    }
};
