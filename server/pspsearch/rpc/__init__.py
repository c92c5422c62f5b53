"""The gRPC port: what comes in is checked and handed to the core, what goes out is put into messages."""
