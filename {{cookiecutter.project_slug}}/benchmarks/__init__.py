"""Figures, not tests: each is taken beside a yardstick in the same run, since machines differ and are shared."""
