"""The template's commands."""
