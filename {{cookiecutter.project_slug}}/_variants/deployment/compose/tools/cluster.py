"""Where the service runs besides the containers of one machine: nowhere."""

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {}
"""What tools/tasks.py offers beside its own commands: names with their help."""

MODULE = ""
