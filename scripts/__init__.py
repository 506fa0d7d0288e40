"""The template's verbs."""
