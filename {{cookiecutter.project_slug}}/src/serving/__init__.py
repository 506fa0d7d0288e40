"""Serve one model over the Open Inference Protocol."""

TEMPLATE_VERSION = "0.1.0"
"""The release of ml-serving-template that generated this code."""
