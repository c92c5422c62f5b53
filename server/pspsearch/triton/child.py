"""Replaces itself with another program, which dies when the parent process dies.

Run it as a script: `child.py PARENT_PID PROGRAM ARGUMENT...`. A forked copy of a process that holds gRPC objects must
not run Python before it execs, so a fresh interpreter runs this and execs in turn.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Asks the kernel to send SIGKILL when the parent dies, then execs."""
    parent_pid, program, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[2:]
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # the parent died before the request took effect
        sys.exit(1)
    os.execv(program, arguments)  # noqa: S606 - a list, no shell: becoming the program is the point


if __name__ == "__main__":
    main()
