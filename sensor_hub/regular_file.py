"""Reading files that somebody else has put there: a pipe or a device in their place neither hangs nor floods us."""

from __future__ import annotations

import errno
import os
import stat

MAX_BYTES = 16 * 1024 * 1024


def read_regular(path: os.PathLike[str]) -> bytes:
    """The content of a regular file of at most 16 MiB. Raises OSError (its strerror says what is wrong), ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"is larger than {MAX_BYTES >> 20} MiB", str(path))
    return content
