"""Decides and conducts. Imports nothing of ray or onnxruntime; every effect goes through router/service/ports.py."""
