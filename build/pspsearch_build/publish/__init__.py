"""Writing a model version into a Triton repository: all of it or nothing."""

from pspsearch_build.publish.config import Batching, Flavour, Instances
from pspsearch_build.publish.version import Publication, publish

__all__ = ["Batching", "Flavour", "Instances", "Publication", "publish"]
