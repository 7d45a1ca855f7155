"""What an object store says when it refuses, as one line for its user."""

import re
from typing import Final

_SAID_BY_S3: Final = re.compile(
    r"AWS Error (?P<code>\w+) during \w+ operation: (?P<sentence>.*?)\.?( \(Request ID.*)?$", re.DOTALL
)


def reason_of(error: Exception) -> str:
    """Return why a store refused: of what S3 says, its own sentence and the code by which it is looked up."""
    lines = str(error).strip().splitlines()
    found = _SAID_BY_S3.search(lines[0]) if lines else None
    if found is not None:
        return f"{found['sentence']} ({found['code']})"
    return lines[0] if lines else type(error).__name__
