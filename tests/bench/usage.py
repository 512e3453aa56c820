"""CPU time and memory of any process of this machine, read from outside: no contender spends time on it."""

import ctypes
import os
import time
from pathlib import Path

_libc = ctypes.CDLL(None)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process so far, in seconds, to the nanosecond.

    `clock_getcpuclockid` (POSIX) names the clock; /proc/PID/stat would tell it in steps of 10 ms.
    Raises ProcessLookupError when there is no such process, OSError where the system does not tell.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(ctypes.c_int(pid), ctypes.byref(clock))
    if error:
        raise ProcessLookupError(f"no CPU clock for process {pid}: {os.strerror(error)}")
    return time.clock_gettime(clock.value)


def machine_cpu_seconds() -> float | None:
    """CPU time that all processes took so far, and that a hypervisor took from the machine; None if unknown.

    proc(5), stat: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
    """
    try:
        line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return None
    user, nice, system, _idle, _iowait, *interrupts_and_steal = map(int, line.split()[1:9])
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid: int) -> int:
    """Memory of a process that is in RAM, in bytes (proc(5), statm, second field)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had in RAM, in bytes (proc(5), status, VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
