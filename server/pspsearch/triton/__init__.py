"""Everything that knows Triton: the bundled server process, its client, shared memory, and the describer."""
