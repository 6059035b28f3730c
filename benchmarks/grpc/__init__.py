"""What gRPC costs: its codec in-process, and the listener under load beside the HTTP one."""
