"""Makes the client that blocks from the one that awaits: `make client`. `make check` fails if that was forgotten.

    python tools/blocking_client.py [FOLDER]

It translates all files of `client/asynchronous` but `tasks.py`, whose counterpart `blocking/threads.py` is written by
hand.
"""

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path("server/pspsearch/client")
BY_HAND = "tasks.py"

SUBSTITUTIONS = [
    (r"await load\w*\((\w+)\)", r"\1"),  # files are read when messages are made from them
    (r"\beach\((\w+)\)", r"\1"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\baclosing\b", "closing"),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\bAsync(?=[A-Z])", ""),  # AsyncClient, AsyncIterator
    (r"(Iterable\[.+\]) \| \1", r"\1"),
    (r"\bgrpc\.aio\b", "grpc"),
    (r"\bimport asyncio\b", "import threading\nimport time"),
    (r"\basyncio\.Condition\b", "threading.Condition"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\basynchronous\.tasks\b", "blocking.threads"),
    (r"\basynchronous\b", "blocking"),
    (r"\bthat awaits\b", "that blocks"),
    (r"\bOnly the event loop that it is made in\b", "Any thread"),
    (r"\bby (a|another) task\b", r"in \1 thread"),
]
"""Applied in this order; then unused imports are removed and lines that became short are joined."""


def translate(source: str) -> str:
    """Translates a module's source to the blocking client's."""
    for pattern, replacement in SUBSTITUTIONS:
        source = re.sub(pattern, replacement, source)
    fixed = _ruff(source, "check", "--fix-only", "--unsafe-fixes", "--select=F401,I001,UP028")
    return "# Made from the client that awaits: see tools/blocking_client.py.\n" + _ruff(fixed, "format")


def _ruff(source: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", "-"]
    return subprocess.run(command, input=source, capture_output=True, check=True, text=True).stdout


def main(folder: Path) -> None:
    """Writes the blocking client's files into the folder."""
    for file in (CLIENT / "asynchronous").glob("*.py"):
        if file.name != BY_HAND:
            (folder / file.name).write_text(translate(file.read_text()))


if __name__ == "__main__":
    main(Path(*sys.argv[1:]) if sys.argv[1:] else CLIENT / "blocking")
