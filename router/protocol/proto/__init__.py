"""Message classes of the gRPC listener. The .proto files are written by hand, `make proto` writes the rest."""
