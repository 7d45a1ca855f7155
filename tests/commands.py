"""Commands in this process, as a user gives them."""

import sys
from pathlib import Path

import pytest

from raybench import cli


def raybench(*arguments: str | Path) -> int:
    """Run a command and return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["raybench", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
    return int(left.value.code or 0)
