"""Measurements of the template."""
