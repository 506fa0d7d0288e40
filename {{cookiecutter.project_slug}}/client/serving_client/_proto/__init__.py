"""Stubs of the wire protocols, written by `make proto`; private, each in a descriptor pool of its own."""
