"""Processes forked while threads allocate; each allocates, frees, and sends its results back."""

import hashlib
import multiprocessing
import os
import random
import sys
import threading

WORKERS = 3
TASKS = 24


def task(seed):
    rng = random.Random(seed)
    rows = [{"id": i, "name": "n" * rng.randrange(200), "values": [rng.random()] * 20} for i in range(1500)]
    rows.sort(key=lambda row: (len(row["name"]), row["id"]))
    text = repr(rows)
    return seed, hashlib.sha256(text.encode()).hexdigest(), text[:200]


def churn(stop):
    while not stop.is_set():
        kept = [bytes(size) for size in range(0, 3000, 7)]
        kept.reverse()
        del kept[::2]


def main():
    # Often enough that the forks meet every thread in the middle of something.
    sys.setswitchinterval(0.0002)
    stop = threading.Event()
    threads = [threading.Thread(target=churn, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        with context.Pool(WORKERS) as pool:
            for seed, digest, text in pool.imap(task, range(TASKS // 3)):
                print(seed, digest, text)
    # Plain forks in quick succession, each with blocks from before and after the fork.
    before = [str(i) * 10 for i in range(2000)]
    for turn in range(60):
        child = os.fork()
        if child == 0:
            after = [line + str(turn) for line in before]
            del before[:]
            os._exit(len("".join(after)) % 251)
        print(turn, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()


main()
