"""The memory behind the store: without a name, so that nothing is left behind whatever dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import tempfile

from p2pdl.errors import StoreTooLarge
from p2pdl.store.layout import HEADER_BYTES, MAGIC, Word


def create() -> int:
    """Make an empty store, large enough for its header and status block.

    Returns:
        A file descriptor: a `memfd` on Linux, elsewhere a private file already unlinked. Whoever holds it open keeps
        the memory; pass it to child processes with `pass_fds`.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("p2pdl-weights", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        descriptor, path = tempfile.mkstemp(prefix="p2pdl-weights-")
        os.unlink(path)
    try:
        grow(descriptor, HEADER_BYTES)
    except BaseException:
        os.close(descriptor)
        raise
    os.pwrite(descriptor, MAGIC.to_bytes(8, "little"), 8 * Word.MAGIC)
    return descriptor


def grow(descriptor: int, nbytes: int) -> None:
    """Give the store its size now, so that no later write can hit missing memory.

    Raises:
        StoreTooLarge: The machine does not have it.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, nbytes)
        else:
            os.ftruncate(descriptor, nbytes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        raise StoreTooLarge(
            f"the weight store needs {nbytes / 2**20:.0f} MiB of memory, and this machine would not give it "
            f"({os.strerror(error.errno)})",
            "use a smaller model, run fewer nodes on this machine, or raise its memory limit",
        ) from None


def seal(descriptor: int) -> None:
    """Fix the size for good, where the system can: nobody's mapping can lose its pages."""
    if hasattr(fcntl, "F_ADD_SEALS"):
        # EPERM: sealed before, by an earlier trainer over the same memory. EINVAL: not a memfd.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
