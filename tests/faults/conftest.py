from pathlib import Path

import pytest

from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return DEFAULTS.model_copy(update={"data_dir": tmp_path})
