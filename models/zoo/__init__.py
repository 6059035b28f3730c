"""Bundled models: each folder has a deterministic build.py, a model.yaml and a reference output."""
