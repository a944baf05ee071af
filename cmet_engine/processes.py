"""Cores, process groups and liveness on Linux, macOS and Windows."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

JOBS = "CMET_JOBS"
"""Environment variable: cores that work may keep busy."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt (glibc, malloc.h)
_KEPT_BLOCK, _KEPT = 32 << 20, 128 << 20  # bytes: of a block, and of all free ones at the end of a heap

_STILL_ACTIVE = 259  # exit code that GetExitCodeProcess gives for a process that runs (Windows SDK)
_QUERY_LIMITED_INFORMATION = 0x1000


def cores() -> int:
    """Cores that work may keep busy: `CMET_JOBS` where it is a number from 1 on, else all that the system gives to this process."""
    asked = os.environ.get(JOBS, "")
    if asked.isascii() and asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let the C library keep what was freed for the next pictures of the same size, instead of fetching it page by page each time.

    Only glibc has the setting; elsewhere nothing happens.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _KEPT_BLOCK)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)


def release_freed_memory() -> None:
    """Give the memory back to the system that the C library keeps of what was freed; see `keep_freed_memory`."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def group_options() -> dict[str, Any]:
    """Arguments for `subprocess.Popen` that put the process and its children into a group of their own."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def kill_group(process: "subprocess.Popen[Any]") -> None:
    """End a process that was started with `group_options`, and its children, at once; wait for it."""
    if sys.platform == "win32":
        command = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def is_running(pid: int) -> bool:
    """Whether a process with this number exists. It may belong to somebody else."""
    if sys.platform == "win32":  # os.kill(pid, 0) would end it there
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
        if not handle:
            return False
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == _STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
