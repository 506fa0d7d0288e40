"""Batch scoring: the served model, its features and its checks on files: `make score`."""
