"""The serving plumbing: one model, behind the Open Inference Protocol."""

TEMPLATE_VERSION = "0.1.0"
"""The release of ml-serving-template that this plumbing came from."""
