"""The address of a server: complete, checked, and shown without its password however it is mistyped."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.coordination.redis_client import address, check, connect
from queue_app.errors import BrokerUnreachable, HoldfastError, UsageError
from queue_app.preflight.check_server import examine_configured
from queue_app.server_address import check_address, without_password, without_secrets
from queue_app.settings import RuntimeConfig, runtime_config

SECRETS = st.text("abcXYZ0189", min_size=8, max_size=12)
"""What no text of ours has by chance."""
MISTAKES = st.sampled_from(
    [*"/?#@:[]% \t\"'\\\n", "", "", "", "%2F", "%zz", "://", "&", "password=", "\x1b", "é"]
)
SCHEMES = st.sampled_from(
    ["redis://", "rediss://", "redis:/", "redis:", "redis//", "", "://", "//", "redis:///", "REDIS://", "http://",
     "rediss+sentinel://", "unix://", "unix:///", "redis+socket://", " redis://", "reddis://"]
)  # fmt: skip
PLACES = st.sampled_from(
    ["127.0.0.1:1/0", "127.0.0.1:1", "127.0.0.1:port/0", "127.0.0.1:99999", "127.0.0.1:1/x", "[::1]:1/0",
     "[::1", "::1:1", "", "/", ":1", "/run/s.sock", "127.0.0.1:1/0?db=1", "127.0.0.1:1?password="]
)  # fmt: skip


@st.composite
def mistyped(draw: st.DrawFn) -> tuple[str, str]:
    """An address, often none, and the password that is somewhere in it, perhaps with an odd sign inside."""
    secret, half = draw(SECRETS), draw(st.integers(0, 8))
    written = secret[:half] + draw(MISTAKES) + secret[half:] if draw(st.booleans()) else secret
    login = draw(st.sampled_from(["", ":", "user:", "user", "default::", " :"])) + written
    behind = draw(st.sampled_from(["@", "@", "@", "@@", ":", "", "%40", ":@"]))
    place = draw(PLACES)
    if draw(st.integers(0, 4)) == 0:
        option = draw(st.sampled_from(["?password=", "?ssl_password=", "?", "#"]))
        return f"{draw(SCHEMES)}{place}{option}{written}", secret
    return f"{draw(SCHEMES)}{login}{behind}{place}", secret


def said_of(url: str) -> str:
    """All that is said of an address: refused, not answered, examined."""
    said = [without_password(url)]
    try:
        with connect(url) as client:
            check(client, url)
    except HoldfastError as error:
        said.append(str(error))
    for finding in examine_configured(url, RuntimeConfig()):
        said += [finding.text, finding.remedy]
    return "\n".join(said)


@given(mistyped())
def test_no_mistyped_address_shows_its_password(made: tuple[str, str]) -> None:
    url, secret = made
    try:
        check_address(url)
    except UsageError:
        pass
    else:
        if "@" not in url:  # it reads as the name of a host, and is none of those that have a password
            return
    assert secret not in said_of(url).replace("\\n", "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@h:1/0", "redis://:***@h:1/0"),
        ("rediss://user:se%2Fcret@h?ssl_ca_certs=/ca.pem", "rediss://user:***@h?ssl_ca_certs=/ca.pem"),
        (
            "rediss://h?ssl_password=secret&ssl_cert_reqs=none",
            "rediss://h?ssl_password=***&ssl_cert_reqs=none",
        ),
        ("redis://:a@b@[::1]:1", "redis://:***@[::1]:1"),
        ("redis://secret@h", "redis://***@h"),
        ("unix://:secret@/run/s.sock?db=1", "unix://:***@/run/s.sock?db=1"),
    ],
)
def test_of_an_address_only_the_secret_is_masked(url: str, shown: str) -> None:
    check_address(url)
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis://:pa/ss@h:1", "written %2F"),
        ("redis://:12?34@h:1", "written %2F"),
        ("redis://:pw@h:port", "no port"),
        ("redis://:pw@", "no host"),
        ("redis://:p w@h", "a blank"),
        ("redis:/:pw@h", "does not begin"),
        ("redis://h?password=pw", "a password stands before the host"),
        ("redis://h/name", "the number of a database"),
    ],
)
def test_what_is_no_address_is_refused_with_what_is_wrong(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        address(url)
    assert "pw" not in str(refused.value)


def test_a_word_alone_before_the_host_is_taken_for_no_user() -> None:
    with pytest.raises(UsageError, match="with the colon"):
        address("redis://secret@h")


def test_a_server_that_repeats_the_login_gives_nothing_away() -> None:
    said = without_secrets("unknown command 'AUTH' 'user' 's3/cret'", "redis://user:s3%2Fcret@h")
    assert said == "unknown command 'AUTH' 'user' '***'"


# ---- the password in a file


@pytest.fixture
def password_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "password"
    path.write_text("s3/c:r@t\n")
    monkeypatch.setenv("HOLDFAST_BROKER_PASSWORD_FILE", str(path))
    runtime_config.cache_clear()
    return path


@pytest.fixture(autouse=True)
def settings_anew() -> object:
    yield
    runtime_config.cache_clear()


def test_the_password_of_the_file_is_put_into_addresses_that_have_none(password_file: Path) -> None:
    assert address("redis://h:1/0") == "redis://:s3%2Fc%3Ar%40t@h:1/0"
    assert address("redis://worker@h:1/0") == "redis://worker:s3%2Fc%3Ar%40t@h:1/0"
    assert address("redis://:own@h:1/0") == "redis://:own@h:1/0"
    assert connect("redis://h:1/0").get_connection_kwargs()["password"] == "s3/c:r@t"


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\n", b"x" * 5000])
def test_a_file_without_one_line_is_refused_by_its_name(password_file: Path, content: bytes) -> None:
    password_file.write_bytes(content)
    with pytest.raises(UsageError, match=f"^{password_file}: HOLDFAST_BROKER_PASSWORD_FILE"):
        address("redis://h:1/0")


def test_a_file_that_is_not_there_is_named(password_file: Path) -> None:
    password_file.unlink()
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        connect("redis://h:1/0")


def test_the_server_is_asked_with_the_password_of_the_file(password_file: Path) -> None:
    with pytest.raises(BrokerUnreachable) as refused, connect("redis://127.0.0.1:1/0") as client:
        check(client, "redis://127.0.0.1:1/0")
    assert "s3" not in str(refused.value)
