"""Threads that build and drop lists, dicts, strings and bytes, and pass them on to be dropped by others."""

import hashlib
import queue
import random
import threading

THREADS = 4
ROUNDS = 120


def work(seed, inbox, outbox, digests):
    rng = random.Random(seed)
    digest = hashlib.sha256()
    held = {}
    for turn in range(ROUNDS):
        words = ["w%d" % rng.randrange(10**9) for _ in range(400)]
        table = {word: [rng.random() for _ in range(rng.randrange(12))] for word in words}
        text = "-".join(sorted(table))
        blob = bytearray()
        for word in words:
            blob += word.encode() * rng.randrange(1, 5)
        blob = bytes(blob)
        numbers = [rng.randrange(2 ** rng.randrange(1, 900)) for _ in range(200)]
        numbers.sort()
        pieces = text.replace("w", "word ").split("-")
        grown = []
        for piece in pieces:
            grown.append(piece)
            grown.extend([piece[::-1], piece.upper()])
        del grown[:: 3]
        held[turn % 7] = (words, table, numbers, grown)
        # A block of every size up to 64 KiB in a coarse raster, filled and read back.
        for size in range(turn, 65536, 4099):
            block = bytearray(size)
            block[:] = bytes([turn & 255]) * size
            digest.update(block)
        digest.update(text.encode())
        digest.update(blob)
        digest.update(repr(numbers[:50]).encode())
        digest.update(repr(sorted(table.items())[:20]).encode())
        digest.update("".join(grown).encode())
        outbox.put((table, blob, words))
        # The neighbour's objects are read and dropped here.
        table, blob, words = inbox.get()
        digest.update(repr(len(table)).encode() + blob[:100] + words[0].encode())
    digests[seed] = digest.hexdigest()


def main():
    pipes = [queue.Queue() for _ in range(THREADS)]
    digests = [""] * THREADS
    threads = [
        threading.Thread(target=work, args=(i, pipes[i], pipes[(i + 1) % THREADS], digests))
        for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Many short threads: each start and end makes and drops a heap.
    counts = []
    for i in range(200):
        thread = threading.Thread(target=lambda i=i: counts.append(len([str(n) for n in range(i)])))
        thread.start()
        thread.join()
    print("\n".join(digests))
    print(sum(counts))


main()
