"""JSON written and read back: many small strings and containers, all freed at once, several times."""

import hashlib
import json
import random


def document(rng, depth):
    if depth == 0:
        return rng.choice([rng.random(), rng.randrange(10**12), "é%x" % rng.getrandbits(90), None, True])
    if rng.random() < 0.5:
        return [document(rng, depth - 1) for _ in range(rng.randrange(1, 9))]
    return {"k%x" % rng.getrandbits(40): document(rng, depth - 1) for _ in range(rng.randrange(1, 9))}


for seed in range(6):
    rng = random.Random(seed)
    value = [document(rng, 5) for _ in range(12)]
    text = json.dumps(value)
    again = json.loads(text)
    assert again == value
    pretty = json.dumps(again, indent=2, sort_keys=True, ensure_ascii=False)
    assert json.loads(pretty) == value
    print(seed, len(text), hashlib.sha256(text.encode()).hexdigest(), hashlib.sha256(pretty.encode()).hexdigest())
