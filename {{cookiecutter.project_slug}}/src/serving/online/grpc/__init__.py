"""Entrypoints: decode, infer, encode, and nothing else."""
