"""`python -m pspsearch` is `pspsearch`."""

from pspsearch.cli import main

main()
