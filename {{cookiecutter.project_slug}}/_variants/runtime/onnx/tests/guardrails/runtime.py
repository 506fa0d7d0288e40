"""What the model runtime of this repo may do that nothing else in the server may."""

FRAMEWORKS: frozenset[str] = frozenset()
"""Import names of the frameworks that it runs models with."""

UNPICKLES: frozenset[str] = frozenset()
"""Its files that read formats which can run code."""
