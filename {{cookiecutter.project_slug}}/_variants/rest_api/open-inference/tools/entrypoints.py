"""What serves beside gRPC adds to the commands of tools/tasks.py."""

BENCHMARKS_BESIDE: tuple[str, ...] = ("benchmarks.rest",)
