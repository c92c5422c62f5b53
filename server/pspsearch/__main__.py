"""Makes `python -m pspsearch` the same as `pspsearch`."""

from pspsearch.cli import main

main()
