"""The suite that proves isolation, for authors of strategies: ``isola isolation``. The extra ``testing`` is needed."""

import pytest

for _module in ("fixtures", "isolation", "oracles", "over_http", "served"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")
