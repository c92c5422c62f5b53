"""Everything that knows Triton: the bundled server process, the wire, the shared memory, the describer."""
