"""Describes in this process, on the CPU, without a Triton: the shortest path from an image to its descriptor."""
