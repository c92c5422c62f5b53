"""Turns encoded images into pixels."""
