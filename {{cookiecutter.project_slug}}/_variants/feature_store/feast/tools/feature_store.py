"""What the feature store adds to the commands of tools/tasks.py."""

MATERIALIZE = ("serving.offline.materialize",)
BENCHMARKS = ("benchmarks.features",)
NOTE = "what a broken store costs callers: python -m benchmarks.faults (it breaks containers, for a minute)"
