"""What the feature store adds to the commands of tools/tasks.py."""

MATERIALIZE = ("serving.offline.materialize",)
BENCHMARKS = ("benchmarks.features",)
NOTE = ""
