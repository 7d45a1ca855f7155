"""Random seeds: a trial's one seed in, an independent seed for each purpose out.

Every random draw of a trial (subset, initial weights, head, order, augmentation) has a seed of its own, so that
one more draw in one place changes nothing in another.
"""

import hashlib
import json


def derive(seed: int, *purpose: str | int) -> int:
    """Return the 63-bit seed that belongs to `seed` and `purpose`, the same on every machine and in every process.

    `derive(0, "head")` and `derive(0, "order", 3)` are unrelated numbers; so are `derive(0, "1")` and `derive(0, 1)`.
    """
    material = json.dumps([seed, *purpose]).encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big") >> 1
