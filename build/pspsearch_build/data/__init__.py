"""Pictures to train on and to evaluate with."""
