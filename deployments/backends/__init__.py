"""Runs batches of one model on one piece of hardware. One file per runtime; base.py is the contract."""
