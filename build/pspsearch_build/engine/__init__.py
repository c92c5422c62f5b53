"""ONNX to a TensorRT plan, and a plan to answers. TensorRT and a GPU are needed only where one of them is used."""

from pspsearch_build.engine.build import build_engine
from pspsearch_build.engine.plan import run_plan
from pspsearch_build.engine.settings import Batches, EngineSettings

__all__ = ["Batches", "EngineSettings", "build_engine", "run_plan"]
