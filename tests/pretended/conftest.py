"""The library of the pretended device, built once and kept; where it cannot be, the tests of this folder are skipped, and say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretended.library import why_not


@pytest.fixture(scope="session")
def libraries(request: pytest.FixtureRequest) -> Path:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return Path(request.config.cache.mkdir("pretended"))
