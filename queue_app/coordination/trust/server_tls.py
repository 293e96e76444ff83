"""How a connection to the server is encrypted, for redis-py and for kombu alike.

A `rediss://` server is talked to only once its certificate and its host name are verified; before that it
gets no byte of ours, the password least of all. What would turn that off is refused.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from queue_app.errors import UsageError
from queue_app.settings import RuntimeConfig, runtime_config

FILES = {"ssl_ca_certs": "tls_ca_file", "ssl_certfile": "tls_cert_file", "ssl_keyfile": "tls_key_file"}
"""What redis-py, kombu and Celery call a file -> the setting that names it where the address does not."""
VERIFIED = {"ssl_cert_reqs": ("required",), "ssl_check_hostname": ("true", "yes", "1")}
"""What an address may say of the verification: that there is one. Celery writes CERT_REQUIRED."""
NO_TLS_THERE = ("WRONG_VERSION_NUMBER", "UNEXPECTED_EOF_WHILE_READING", "RECORD_LAYER_FAILURE")
"""What OpenSSL calls an answer in plain text. A Redis without TLS gives none, and waits for more."""


def split_tls(url: str) -> tuple[str, dict[str, Any]]:
    """The address without options, and the options of a verified connection; none for a `redis://` server.

    They are `redis.SSLConnection`'s, which kombu makes its connections of as well (`broker_use_ssl`).

    What is no such address is given back as it is: whoever connects says so.

    Raises:
        UsageError: an option of the address is unknown, would verify less, or stands where there is no TLS; a
            file is missing or holds no certificate or key.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, {}
    if parts.scheme not in ("redis", "rediss"):
        return url, {}
    if "@" in parts.query:  # else we would print the rest of a password as the name of an option
        raise UsageError("the server's address has a ? before its @; in a password write %3F")
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in said.items():
        _check_option(name, value, parts.scheme)
    bare = urlunsplit(parts._replace(query=""))
    if parts.scheme == "redis":
        return bare, {}
    files = _files(said, runtime_config())
    _try_out(files)
    return bare, {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **files}


def explain_tls(error: BaseException) -> str | None:
    """Why a connection came to nothing, and what to do, where it was for TLS; else None."""
    found = causes(error)
    reason = next((each for each in found if isinstance(each, ssl.SSLError)), None)
    is_unanswered = any(isinstance(each, TimeoutError) and "handshake" in str(each) for each in found)
    if reason is None and not is_unanswered:
        return None
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"the server's certificate is not trusted ({reason.verify_message.rstrip('.')}), and nothing "
            "was sent to it; name the authority that signed it by HOLDFAST_TLS_CA_FILE, and the host as the "
            "certificate does"
        )
    if reason is None or reason.reason in NO_TLS_THERE:
        return (
            "what answers there speaks no TLS; write the port that the server has for it (tls-port), or "
            "redis:// where nobody else is on the network"
        )
    return (
        f"the server refuses the encrypted connection ({reason.reason or reason}); where it asks its "
        "clients for a certificate, name one by HOLDFAST_TLS_CERT_FILE and HOLDFAST_TLS_KEY_FILE"
    )


def causes(error: BaseException | None) -> list[BaseException]:
    """The error, and what it was raised of."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _check_option(name: str, value: str, scheme: str) -> None:
    if name not in VERIFIED and name not in FILES:
        known = ", ".join(sorted({*VERIFIED, *FILES}))
        raise UsageError(f"the server's address has the option {name}; there are {known}, with rediss://")
    if scheme != "rediss":
        raise UsageError(
            f"the server's address has the option {name}, and redis:// has no TLS; write rediss://"
        )
    if name in VERIFIED and value.lower().removeprefix("cert_") not in VERIFIED[name]:
        raise UsageError(
            f"{name}={value} in the server's address: a server is never believed unverified, as whoever "
            "stands between would have the password; name who signed its certificate by HOLDFAST_TLS_CA_FILE"
        )


def _files(said: Mapping[str, str], config: RuntimeConfig) -> dict[str, str]:
    """Each that the address names, else the settings; a client's certificate and its key go together."""
    found = {name: said.get(name) or getattr(config, setting) for name, setting in FILES.items()}
    named = {name: str(path) for name, path in found.items() if path}
    for name, path in named.items():
        if not Path(path).is_file():
            raise UsageError(f"{_setting(name)}: {path} is no file")
    if "ssl_keyfile" in named and "ssl_certfile" not in named:
        raise UsageError("HOLDFAST_TLS_KEY_FILE is set without HOLDFAST_TLS_CERT_FILE; a client needs both")
    return named


def _try_out(files: Mapping[str, str]) -> None:
    """Now, so that a file that is none is said here, and not at each connection."""
    context = ssl.create_default_context()
    try:
        name = "ssl_ca_certs"
        if name in files:
            context.load_verify_locations(files[name])
        name = "ssl_certfile"
        if name in files:
            # Empty, or OpenSSL would ask for it at the terminal.
            context.load_cert_chain(files[name], files.get("ssl_keyfile"), password="")  # nosec B106
    except (ssl.SSLError, OSError) as error:
        what = "certificate" if name == "ssl_ca_certs" else "certificate with its key"
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(
            f"{_setting(name)}: {files[name]} holds no {what} that can be read as PEM ({why})"
        ) from None


def _setting(option: str) -> str:
    return f"HOLDFAST_{FILES[option].upper()}"
