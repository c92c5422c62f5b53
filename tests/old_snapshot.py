"""Makes an index's snapshot in its old form, when all numbers were floats."""

import json
from pathlib import Path

import numpy as np

from pspsearch.index.snapshot_manifest import MANIFEST, _digest, file_digest
from pspsearch.index.table.table import COLUMNS


def make_old(folder: Path, **numbers: list[float]) -> None:
    """Gives the one snapshot in the folder float columns, one value for each row, and a manifest to match."""
    (snapshot,) = folder.glob("snapshot-*")
    (rows,) = {len(values) for values in numbers.values()}
    header = json.dumps({"rows": rows, "columns": [[name, "float"] for name in numbers]}).encode()
    with (snapshot / COLUMNS).open("wb") as file:
        np.save(file, np.frombuffer(header, np.uint8))
        for values in numbers.values():
            np.save(file, np.arange(rows, dtype=np.int32))
            np.save(file, np.array(values))
            np.save(file, np.zeros(0, np.int64))
    fields = json.loads((snapshot / MANIFEST).read_bytes())["manifest"]
    fields |= {"format": 2, "digests": {**fields["digests"], COLUMNS: file_digest(snapshot / COLUMNS)}}
    (snapshot / MANIFEST).write_text(json.dumps({"manifest": fields, "digest": _digest(fields)}))
