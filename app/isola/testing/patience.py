"""How long tests wait that are not about waiting, in seconds: 150, or ``TEST_PATIENCE``."""

import os

PATIENCE = float(os.environ.get("TEST_PATIENCE", "150"))
"""For what takes a moment on a machine that has nothing else to do. Less than pytest allows a test: pyproject.toml."""
