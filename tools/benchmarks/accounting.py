"""What the kernel has counted for a process: its time on a processor, and the peak of its own memory."""

from __future__ import annotations

import time
from pathlib import Path


def processor_seconds(process: int) -> float:
    """Seconds that all threads of a process have computed so far, in its own code and in the kernel.

    The sum of `utime` and `stime` in `/proc/PID/stat`, but in nanoseconds and not in steps of 10 ms.
    """
    # See clock_getcpuclockid(3): the clock of a process is its id's complement, and 2 means what the scheduler counts.
    return time.clock_gettime(~process << 3 | 2)


def own_peak_nbytes(process: int | str = "self") -> int:
    """The most memory that a process had resident at once, without what it shares with others.

    `VmHWM` less `RssShmem`: the peak of anonymous pages and pages of files. The shared pages are those of weight
    stores. They only become more, so ask when the peak is likely to come after the last of them.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    kilobytes = {line.partition(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
    return 1024 * (int(kilobytes["VmHWM"]) - int(kilobytes["RssShmem"]))
