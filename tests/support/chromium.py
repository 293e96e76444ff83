"""A real headless Chromium for the tests, where this machine has one."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EXECUTABLE = next(filter(None, map(shutil.which, NAMES)), None)

SOON = 40_000
"""Milliseconds after which what a page shows is not going to be there, however slow the machine."""

needs_chromium = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium here (apt-get install chromium)")


@contextlib.contextmanager
def browser(home: Path, *, colours: str = "light") -> Iterator[Any]:
    """A window of a browser that knows nothing; its profile lies under `home`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        window = driver.chromium.launch_persistent_context(
            home,
            executable_path=EXECUTABLE,
            args=FLAGS,
            color_scheme=colours,
            viewport={"width": 1180, "height": 900},
        )
        try:
            yield window
        finally:
            window.close()


def wait_for_text(page: Any, selector: str, text: str) -> None:
    """Until an element of this selector shows a text of this pattern."""
    page.locator(selector).filter(has_text=re.compile(text)).first.wait_for(timeout=SOON)
