"""The isolation test suite, for authors of strategies: ``isola isolation``. It needs the extra ``testing``."""

import pytest

for _module in ("fixtures", "isolation", "oracles", "over_http", "served"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
