"""What everything else builds on: types, rules and ports; no I/O library, transport or framework."""
