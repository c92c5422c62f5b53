"""Checks whether this process could describe by itself. It loads nothing."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

from pspsearch.config import TritonSettings
from pspsearch.errors import PspsearchError
from pspsearch.findings import Finding, Grade
from pspsearch.model.config import check_config
from pspsearch.model.repository import check_model, default_repository


async def examine_model(settings: TritonSettings) -> Finding:
    """Examines whether OpenVINO is there, and the model undamaged in its repository."""
    if find_spec("openvino") is None:
        return Finding("model", Grade.BAD, "no OpenVINO is installed: pip install 'pspsearch[cpu]'")
    root = Path(settings.repository) if settings.repository else default_repository()
    try:
        await asyncio.to_thread(check_model, root / settings.model)
        check_config(root / settings.model)
    except PspsearchError as error:
        return Finding("model", Grade.BAD, str(error))
    if not list((root / settings.model).glob("[0-9]*/model.onnx")):
        return Finding("model", Grade.BAD, f"{root / settings.model} has no version with a model.onnx: use a Triton")
    return Finding("model", Grade.GOOD, f"{settings.model} in {root} is what was published; OpenVINO is there")
