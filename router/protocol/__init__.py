"""Bytes to values and back, sans-IO. No sockets, no clock."""
