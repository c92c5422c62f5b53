"""Makes model versions: builds and trains the network, exports it, compiles its engine, checks parity, publishes."""
