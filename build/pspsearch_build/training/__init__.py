"""Trains the weights of a descriptor network on pictures."""
