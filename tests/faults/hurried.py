"""Runs pspsearch with indexes that merge, compact and save whenever there is anything to do.

`python -m tests.faults.hurried serve ...`
"""

from typing import Any, cast

from pspsearch.index.index import SegmentedIndex
from pspsearch.index.upkeep import Bounds

if __name__ == "__main__":
    defaults = cast("Any", SegmentedIndex.open).__func__.__kwdefaults__
    defaults["bounds"] = Bounds(fresh_bytes=4096, fresh_share=0, dead_rows=16, dead_share=0.05, snapshot_pause_s=0)
    from pspsearch.cli import main

    main()
