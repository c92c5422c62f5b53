"""What makes a model version: the network, its export, its engine, its parity, its publication."""
