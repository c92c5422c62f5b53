"""The part of pytorch-metric-learning that is used here: it has no types of its own."""
