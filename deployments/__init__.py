"""Touches machines: Ray, ONNX Runtime, sockets. Composes what router and models define.

Owns processes, sessions and listeners. Never decides where a request goes.
"""
