"""Turns images, items and descriptors into descriptors of a collection's space."""
