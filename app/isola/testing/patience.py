"""How long tests wait that are not about waiting, in seconds."""

PATIENCE = 150.0
"""For what takes a moment on a machine that has nothing else to do. Less than pytest allows a test: pyproject.toml."""
