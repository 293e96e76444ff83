"""Clients of the Redis-protocol server."""

from functools import cache
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from queue_app.coordination.trust.server_tls import explain_tls, split_tls
from queue_app.coordination.trust.signing import KeyRing, ring_of_server
from queue_app.errors import BrokerUnreachable, UsageError
from queue_app.server_address import (
    FORM,
    check_address,
    has_password,
    read_password,
    with_password,
    without_password,
    without_secrets,
)
from queue_app.settings import runtime_config
from queue_app.shown import visible

SOCKET_TIMEOUT_SECONDS = 5.0

TRANSIENT = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError)
"""What a server that is away or starting raises; everything else is a mistake of ours."""


def address(url: str) -> str:
    """`url` as clients take it: with the password of HOLDFAST_BROKER_PASSWORD_FILE where it has none.

    Raises:
        UsageError: it is no address, or the file cannot be read; repeats nothing that may be secret.
    """
    check_address(url)
    if has_password(url):
        return url
    if (file := runtime_config().broker_password_file) is not None:
        return with_password(url, read_password(file))
    if "@" in url and ":" not in url.rpartition("@")[0].rpartition("://")[2]:
        raise UsageError(f"{without_password(url)}: a user without a password; write {FORM}, with the colon")
    return url


def connect(url: str) -> redis.Redis:
    """A client that never repeats a command by itself: a repeated increment would count twice.

    A half-open connection is noticed by the socket timeout and the health check.

    Raises:
        UsageError: `url` is none, or asks for a connection that is not to be trusted.
    """
    try:
        bare, tls = split_tls(address(url))
        return redis.Redis.from_url(
            bare,
            **tls,
            decode_responses=True,
            encoding_errors="replace",  # what is no text was not put there by us
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            health_check_interval=5,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:  # whose words may repeat any part of it
        raise UsageError(f"{without_password(url)}: not a server's address; write {FORM}") from None


def check(server: redis.Redis, url: str) -> None:
    """Make sure that a server answers.

    Raises:
        BrokerUnreachable: nobody answers at `url`, or the password is wrong; says which.
    """
    try:
        server.ping()
    except redis.AuthenticationError as error:
        raise BrokerUnreachable(
            f"{without_password(url)}: the server refuses the password ({told(error, url)}); "
            f"write {FORM}, or USER:PASSWORD where it has users"
        ) from None
    except redis.RedisError as error:
        if not_encrypted := explain_tls(error):
            raise BrokerUnreachable(f"{without_password(url)}: {not_encrypted}") from None
        raise BrokerUnreachable(
            f"{without_password(url)}: no server answers ({told(error, url)}); "
            "start one, or name another by --broker-url or HOLDFAST_BROKER_URL; "
            "holdfast embed, where neither names one, starts its own"
        ) from None


def told(error: Exception, url: str) -> str:
    """What a server or its client says, as it may be shown: it may repeat the login it was given."""
    return visible(without_secrets(str(error), address(url)), 1000)


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


def ring_of(server: redis.Redis) -> KeyRing | None:
    """The keys that what goes by this server is signed with; None where nothing is."""
    return ring_of_server(server.connection_pool.connection_kwargs.get("password"))


def open_to_writers(url: str) -> str:
    """What whoever may write to a server on the network can do where nothing is signed; empty where all is,
    and of a server on this host."""
    parts = urlsplit(url)
    is_here = parts.scheme == "unix" or parts.hostname in (None, "localhost", "127.0.0.1", "::1")
    if is_here or ring_of_server(parts.password) is not None:
        return ""
    return (
        "whoever can write to this broker can stop jobs, and begin any that lies where its workers look: "
        "holdfast key-file PATH makes a key, HOLDFAST_KEY_FILE names it on every host"
    )


@cache
def client() -> redis.Redis:
    """One client per process; made after the fork."""
    return connect(runtime_config().broker_url)
