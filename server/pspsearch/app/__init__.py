"""Puts everything together: the only room that names adapters."""
