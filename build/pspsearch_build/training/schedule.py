"""How fast the weights move in each step."""

import math


def rate_at(step: int, steps: int, warm_up_steps: int) -> float:
    """The share of the highest rate in a step, counted from 0: a linear rise, then half a cosine towards 0."""
    rising = min(1.0, (step + 1) / (warm_up_steps + 1))
    return rising * (1 + math.cos(math.pi * step / steps)) / 2
