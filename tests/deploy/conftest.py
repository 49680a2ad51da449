"""What several tests of the deployment files look at."""

from __future__ import annotations

import pytest

from tests.deploy import figures


@pytest.fixture(scope="session")
def metrics_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of a real /metrics page."""
    return figures.page(tmp_path_factory.mktemp("figures"))
