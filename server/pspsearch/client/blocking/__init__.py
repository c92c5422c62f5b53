# Made from the client that awaits: see tools/blocking_client.py.
"""The client that blocks."""
