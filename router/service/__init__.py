"""The order of steps of a request (cycle.py, no I/O) and its asyncio driver (handler.py)."""
