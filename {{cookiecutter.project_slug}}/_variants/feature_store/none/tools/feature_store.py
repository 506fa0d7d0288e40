"""What the feature store adds to the commands of tools/tasks.py: nothing, since there is none."""

MATERIALIZE: tuple[str, ...] = ()
BENCHMARKS: tuple[str, ...] = ()
NOTE = ""
