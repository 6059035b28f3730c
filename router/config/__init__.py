"""Strict configuration: schema, plugin table, files and environment. The one door to pydantic."""
