"""Compiles ONNX to a TensorRT plan, and runs a plan. Only a call of either needs TensorRT and a GPU."""

from pspsearch_build.engine.build import build_engine
from pspsearch_build.engine.plan import run_plan
from pspsearch_build.engine.settings import Batches, EngineSettings

__all__ = ["Batches", "EngineSettings", "build_engine", "run_plan"]
