"""What Ray Tune is kept from saving: it writes its callbacks, schedulers and searchers into files that nobody reads."""

from typing import Any


class Unsaved:
    """Mixed into what Ray Tune would pickle, and what holds things that cannot or should not be."""

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing."""
        return {}
