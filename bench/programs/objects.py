"""Objects, dicts, lists and strings that come and go: what an interpreter asks of malloc all day."""

import random


class Node:
    def __init__(self, key, left, right):
        self.key = key
        self.children = [left, right]
        self.notes = {"key": key, "name": "node %d" % key}


def tree(rng, depth):
    if depth == 0:
        return None
    return Node(rng.randrange(10**9), tree(rng, depth - 1), tree(rng, depth - 1))


def total(node):
    return 0 if node is None else node.notes["key"] % 97 + sum(total(child) for child in node.children)


rng = random.Random(1)
kept = {}
digest = 0
for turn in range(24):
    digest += total(tree(rng, 13))
    rows = [{"id": i, "name": "x" * rng.randrange(60) + str(i), "values": list(range(i % 20))} for i in range(15000)]
    rows.sort(key=lambda row: row["name"])
    for row in rows[::3]:
        kept[rng.randrange(40000)] = (row["name"] * 2, [row["id"]] * (row["id"] % 30))
    digest += len("\n".join(row["name"] for row in rows).split("\n")) + len(kept)
print(digest)
