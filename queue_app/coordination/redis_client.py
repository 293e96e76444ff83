"""Clients of the Redis-protocol server."""

from functools import cache
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from queue_app.errors import BrokerUnreachable, UsageError
from queue_app.settings import runtime_config
from queue_app.trust.server_tls import explain_tls, split_tls

SOCKET_TIMEOUT_SECONDS = 5.0

TRANSIENT = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
"""What a server that is away or starting raises; everything else is a mistake of ours."""


def connect(url: str) -> redis.Redis:
    """A client that never repeats a command by itself: a repeated increment would count twice.

    A half-open connection is noticed by the socket timeout and the health check.

    Raises:
        UsageError: `url` is none, or asks for a connection that is not to be trusted.
    """
    try:
        bare, tls = split_tls(url)
        return redis.Redis.from_url(
            bare,
            **tls,
            decode_responses=True,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            health_check_interval=5,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise UsageError(
            f"{without_password(url)}: not a server's address ({error}); write redis://:PASSWORD@HOST:PORT/0"
        ) from None


def check(server: redis.Redis, url: str) -> None:
    """Make sure that a server answers.

    Raises:
        BrokerUnreachable: nobody answers at `url`, or the password is wrong; says which.
    """
    try:
        server.ping()
    except redis.AuthenticationError as error:
        raise BrokerUnreachable(
            f"{without_password(url)}: the server refuses the password ({error}); "
            "write redis://:PASSWORD@HOST:PORT/0, or USER:PASSWORD where it has users"
        ) from None
    except redis.RedisError as error:
        if not_encrypted := explain_tls(error):
            raise BrokerUnreachable(f"{without_password(url)}: {not_encrypted}") from None
        raise BrokerUnreachable(
            f"{without_password(url)}: no server answers ({error}); "
            "start one, or name another by --broker-url or HOLDFAST_BROKER_URL; "
            "holdfast embed, where neither names one, starts its own"
        ) from None


def own_broker(url: str | None) -> str | None:
    """The user's own server, where `url` or HOLDFAST_BROKER_URL names one; else None."""
    config = runtime_config()
    return url or (config.broker_url if "broker_url" in config.model_fields_set else None)


def connected(url: str | None) -> tuple[str, redis.Redis]:
    """The server that must be there: at `url`, HOLDFAST_BROKER_URL, or the usual address.

    Raises:
        BrokerUnreachable: nobody answers there.
    """
    chosen = url or runtime_config().broker_url
    server = connect(chosen)
    check(server, chosen)
    return chosen, server


def without_password(url: str) -> str:
    """The url as it may be shown and logged."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


@cache
def client() -> redis.Redis:
    """One client per process; made after the fork."""
    return connect(runtime_config().broker_url)
