"""Five guards, one per mistake that teams make when they serve models: put a mistake back, and its guard fails.

They read this repo's own files and start nothing. docs/five-mistakes.md tells the story of each.
"""
