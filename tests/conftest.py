from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data, published results and other toolkits' answers, beside the checkout; never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared: real annotations and published results, which may not be redistributed")
    return folder
