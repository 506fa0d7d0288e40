"""Stubs of the wire protocols, written by `make proto`; private, each in a separate descriptor pool."""
