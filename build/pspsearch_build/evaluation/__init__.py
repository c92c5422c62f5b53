"""How good descriptors are: what is found, what is told apart, and how sure that is."""
