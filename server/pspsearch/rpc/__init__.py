"""The gRPC port: checks each request, hands it to the core, and writes the answer as a message."""
