"""Pictures that a run both learns from and is asked about."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pspsearch.model.contract import InputShape
from pspsearch_build.data.batches import Source
from pspsearch_build.data.pictures import read_pictures
from pspsearch_build.evaluation.measuring import Task
from pspsearch_build.evaluation.retrieval import Descriptors
from pspsearch_build.forms import Pixels
from pspsearch_build.training.leaks import find_leaks
from tests.build.training_pictures import draw_patterns

SHAPE = InputShape(32, 32)


def _describe(pixels: Pixels) -> Descriptors:
    rows = pixels.reshape(len(pixels), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_picture_saved_anew_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It has another name, is smaller, and is a JPEG. Unreadable files are skipped, and other pictures are no leak."""
    draw_patterns(tmp_path / "train", 3, range(6))
    draw_patterns(tmp_path / "new", 3, range(6, 9))
    draw_patterns(tmp_path / "clean", 3, range(9, 12))
    learnt, asked = sorted((tmp_path / "train").rglob("*.*"))[4], sorted((tmp_path / "new").rglob("*.*"))[0]
    copy = asked.with_name("copy.jpg")
    picture = Image.open(learnt)
    picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).convert("RGB").save(copy, quality=80)
    (tmp_path / "train" / learnt.parent.name / "broken.png").write_bytes(b"no picture")
    sources = {"patterns": Source(read_pictures(str(tmp_path / "train")))}
    tasks = {name: Task(read_pictures(str(tmp_path / name)), None) for name in ("new", "clean")}

    leaks = list(find_leaks(_describe, SHAPE, sources, tasks))

    assert [(leak.validation, leak.source, leak.queries, leak.example) for leak in leaks] == [
        ("new", "patterns", 1, (copy, learnt))
    ]
    assert "1 of the queries of 'new' are nearly the same as pictures that are trained on (patterns)" in str(leaks[0])
    assert "broken.png is left out" in caplog.text
