"""Side by side: inference servers on JSON, on the binary tensor extension and on gRPC, with one model and one load."""
