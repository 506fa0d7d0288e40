"""Where the service runs besides the containers of one machine: on Kubernetes."""

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "manifests": "print what `make deploy` applies to the cluster (TO=staging, or another of deploy/overlays)",
}
"""What tools/tasks.py offers beside its own commands: names with their help."""

MODULE = "tools.kubernetes"
"""Runs them, and `deploy` where TO names an environment."""
