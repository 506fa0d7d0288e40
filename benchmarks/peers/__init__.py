"""Servers of one model beside a generated repo: a folder for each peer, with its lock, its program and `peer.toml`."""
