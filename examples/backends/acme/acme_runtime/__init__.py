"""Acme's runtime: backend.py is what Pointsman calls, device.py stands in for the driver and the chip."""
