"""The serving plumbing: one model, behind the Open Inference Protocol."""
