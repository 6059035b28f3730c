"""How well a pool would serve a request: scores in [0, 1] that saturate. None rejects."""
