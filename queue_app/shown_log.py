"""What a log gets to show: one event a line, without what a terminal would obey, without a server's password.

It stands at the handlers, behind all loggers: libraries log what servers and other people's files say.
"""

import logging
from collections.abc import Callable

from queue_app.server_address import without_secrets
from queue_app.shown import visible_lines

FORMAT_OF_ERRORS = logging.Formatter()


class ShownLog(logging.Filter):
    """Makes each record's text visible; `url` tells the server's address, whose secrets nobody repeats."""

    def __init__(self, url: Callable[[], str]) -> None:
        super().__init__()
        self._url = url

    def filter(self, record: logging.LogRecord) -> bool:
        url = self._url()
        message = without_secrets(record.getMessage(), url)
        record.msg, record.args = (
            visible_lines(" ".join(filter(None, map(str.strip, message.split("\n"))))),
            (),
        )
        if record.exc_info and not record.exc_text:
            record.exc_text = FORMAT_OF_ERRORS.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = visible_lines(without_secrets(record.exc_text, url))
        return True


def show_safely(logger: logging.Logger, url: Callable[[], str]) -> None:
    """All that the logger's own handlers write."""
    for handler in logger.handlers:
        if not any(isinstance(each, ShownLog) for each in handler.filters):
            handler.addFilter(ShownLog(url))
