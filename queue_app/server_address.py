"""The address of a Redis-protocol server: what is one, what is missing in it, and how it is shown.

Whoever mistypes an address may have its password anywhere in it. So a text that is no address is refused in
words that repeat nothing of it, before a library sees it that would; and of one that is, all that may be
secret is masked.
"""

import re
import stat
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from queue_app.errors import UsageError

SCHEMES = ("redis", "rediss", "unix")
FORM = "redis://:PASSWORD@HOST:PORT/0"
MASK = "***"
PASSWORD_BYTES_MOST = 4096
SECRET_LEAST = 4
"""Letters: a shorter word would be found in half of all texts."""
_HOST = re.compile(r"[\w.-]+|[0-9a-fA-F]*:[0-9a-fA-F:.]*(%\w+)?")
_DATABASE = re.compile(r"/?|/\d{1,4}")
_QUERY = re.compile(r"((ssl_\w+=[^&=]*|db=\d{1,4})(&|$))*")
_KEY_PASSWORD = re.compile(r"(ssl_password=)[^&]*")


def check_address(url: str) -> None:
    """Raises UsageError where `url` is no address; says why in words that repeat nothing of it."""
    if why := _mistake(url):
        raise UsageError(f"{without_password(url)}: not a server's address: {why}; write {FORM}")


def _mistake(url: str) -> str:
    """Empty where there is none."""
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "it has a blank in it, or what cannot be seen"
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return "it does not begin with redis:// or rediss://"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "behind the host stands no port; in a password / ? # and [ are written %2F %3F %23 and %5B"
    if "#" in url or "@" in parts.path + parts.query:
        return "in a password / ? and # are written %2F %3F and %23"
    if not _QUERY.fullmatch(parts.query):
        return "behind ? stand settings of TLS alone, as ssl_ca_certs=FILE; a password stands before the host"
    if parts.scheme == "unix":
        return "" if parts.path.startswith("/") and not host else "behind unix:// stands an absolute path"
    if not _HOST.fullmatch(host):
        return "no host can be told"
    if not _DATABASE.fullmatch(parts.path):
        return "behind host and port stands the number of a database, or nothing"
    return ""


def without_password(url: str) -> str:
    """The address as it may be shown and logged. Of a text that is none, nothing is."""
    if _mistake(url):
        scheme = url.partition("://")[0]
        return f"{scheme}://{MASK}" if scheme in SCHEMES and "://" in url else "the address that was given"
    login, at, place = urlsplit(url).netloc.rpartition("@")
    user, _, password = login.partition(":")
    # A word alone before the host may be a password without its colon.
    masked = f"{user}:{MASK}@" if password else f"{MASK}@" if at else ""
    shown = url.replace(f"{login}{at}{place}", f"{masked}{place}", 1)
    return _KEY_PASSWORD.sub(rf"\1{MASK}", shown)


def without_secrets(text: str, url: str) -> str:
    """The words of a library or a server, which may repeat it, without what is secret in an address."""
    for secret in sorted(_secrets(url), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(url: str) -> set[str]:
    """All that stands before the last `@`, as it is written and as it is meant."""
    login = url.rpartition("@")[0].rpartition("://")[2]
    words = {login, login.partition(":")[2], *_KEY_PASSWORD.findall(url)}
    words |= {unquote(word) for word in words}
    return {word for word in words if len(word) >= SECRET_LEAST and word != "ssl_password="}


# ---- a password that stands elsewhere


def has_password(url: str) -> bool:
    """Whether an address brings its own."""
    return bool(urlsplit(url).password)


def with_password(url: str, password: str) -> str:
    """The address `url`, which has none, with this one."""
    parts: SplitResult = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{place}").geturl()


def read_password(path: Path) -> str:
    """The one line of a file.

    Raises:
        UsageError: it cannot be read, or has not one line.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path}: HOLDFAST_BROKER_PASSWORD_FILE names no file")
        with path.open("rb") as file:
            data = file.read(PASSWORD_BYTES_MOST + 1)
        password = data.decode().rstrip("\r\n")
    except OSError as error:
        raise UsageError(f"{path}: HOLDFAST_BROKER_PASSWORD_FILE cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: HOLDFAST_BROKER_PASSWORD_FILE is no text") from None
    if not password or not password.isprintable() or len(data) > PASSWORD_BYTES_MOST:
        raise UsageError(f"{path}: HOLDFAST_BROKER_PASSWORD_FILE is to have one line, the password")
    return password
