"""One side of figures.py, in a process of its own: ``python bench/alone.py SIDE QUESTION ROOT``.

Prints the answer, the seconds it took once everything was imported, and the most memory that the
process ever held, in MiB.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path

STATUS = Path("/proc/self/status")


def main() -> None:
    side, question, root = sys.argv[1:]
    answering = getattr(importlib.import_module(side), question)
    began = time.perf_counter()
    answer = answering(root)
    seconds = time.perf_counter() - began
    print(json.dumps({"answer": answer, "seconds": seconds, "peak": _peak()}))


def _peak() -> float:
    """Of this program alone, where Linux tells: ru_maxrss begins with that of who started it."""
    if STATUS.exists():
        [line] = [row for row in STATUS.read_text().splitlines() if row.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
