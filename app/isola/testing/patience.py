"""The timeout, in seconds, of tests that are not about timeouts: 150, or ``TEST_PATIENCE``."""

import os

PATIENCE = float(os.environ.get("TEST_PATIENCE", "150"))
"""For operations that are fast on an idle machine. Less than pytest's timeout of a test: pyproject.toml."""
