"""Files that can be read to their end: a path in, an `OSError` out where it leads to a FIFO, a device or a folder.

Reading a FIFO waits for a writer that may never come, and /dev/zero never ends. A link to a regular file is one.
"""

import errno
import stat
from pathlib import Path


def check_regular(path: Path) -> None:
    """Raise `OSError`, whose `strerror` is the reason, unless a regular file lies there."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file but a FIFO, socket or device", str(path))
