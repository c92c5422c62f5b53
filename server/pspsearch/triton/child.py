"""Becomes another program that dies with the process that started this one.

Run as a script, `child.py PARENT_PID PROGRAM ARGUMENT...`: a forked copy of a process that holds gRPC objects must
not run Python before it execs, so this is a fresh interpreter that execs in its turn.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks the kernel for SIGKILL at the parent's death, then execs."""
    parent_pid, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the request took hold
        sys.exit(1)
    os.execv(program, arguments)  # noqa: S606 - a list, no shell: becoming the program is the point


if __name__ == "__main__":
    main()
