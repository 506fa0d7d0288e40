"""Entrypoint: the REST API of the Open Inference Protocol."""
