"""A window of a real browser and a tab in it, for the tests of the page."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chromium import SOON, browser


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """It ends with a file of tests: while it is open, no other test of this process can run a loop."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(window: Any) -> Iterator[Any]:
    """A tab, in which no script may fail."""
    opened = window.new_page()
    failed: list[object] = []
    opened.set_default_timeout(SOON)
    opened.set_viewport_size({"width": 1280, "height": 800})
    opened.on("pageerror", lambda error: failed.append(error))
    yield opened
    opened.close()
    assert failed == []
