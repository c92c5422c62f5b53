"""What a model version is: its contract, its files, and the repository that they lie in."""
