"""Adapters: the only modules that import a store's, a registry's or a runtime's library."""
