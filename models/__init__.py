"""What a model is: tensors, batching rule, latency profile.

Owns the facts of a model. Never routes, never touches a network or an inference runtime.
"""
