"""Independent seeds from one seed: what is drawn for one purpose never shifts what is drawn for another.

In: a trial's seed and the purpose of a draw. Out: an integer that any random generator takes.
"""

import hashlib

_BITS = 63
"""Seeds stay non-negative in a signed 64-bit integer."""


def derive(seed: int, *purpose: str | int) -> int:
    """Return the seed of one purpose, in 0..2**63-1: the same on every machine, for every version of every library.

    `derive(0, "order", 3)` and `derive(0, "order", 4)` are as unrelated as SHA-256 makes them.
    """
    text = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> (64 - _BITS)
