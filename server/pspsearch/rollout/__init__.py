"""Takes a collection from one model version to another while it answers, and back."""
