"""Run a model in this process with the library that trained it."""
