"""The options of an encrypted connection: what an address may say, and what it may not."""

from pathlib import Path

import pytest

from queue_app.celery_app import make_app
from queue_app.coordination.trust.server_tls import split_tls
from queue_app.errors import UsageError
from queue_app.settings import runtime_config

VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


def test_rediss_is_verified_where_nothing_is_said() -> None:
    assert split_tls("rediss://:pw@host:6380/0") == ("rediss://:pw@host:6380/0", VERIFIED)


def test_redis_has_no_tls() -> None:
    assert split_tls("redis://:pw@host:6379/0") == ("redis://:pw@host:6379/0", {})
    assert not make_app("redis://:pw@host:6379/0").conf.broker_use_ssl


@pytest.mark.parametrize(
    "options", ["ssl_cert_reqs=required", "ssl_cert_reqs=CERT_REQUIRED", "ssl_check_hostname=True"]
)
def test_both_spellings_are_one_to_kombu_and_redis(options: str) -> None:
    bare, tls = split_tls(f"rediss://host/0?{options}")
    assert (bare, tls) == ("rediss://host/0", VERIFIED)
    assert make_app(f"rediss://host/0?{options}").conf.broker_use_ssl == VERIFIED


@pytest.mark.parametrize(
    "options",
    ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs=optional", "ssl_cert_reqs=",
     "ssl_check_hostname=false"],
)  # fmt: skip
def test_what_would_verify_less_is_refused(options: str) -> None:
    with pytest.raises(UsageError, match="never believed unverified"):
        split_tls(f"rediss://:secret@host/0?{options}")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_an_unknown_option_is_refused_and_no_library_has_its_own_way_with_it(scheme: str) -> None:
    with pytest.raises(UsageError, match="has the option socket_timeout; there are ssl_ca_certs"):
        split_tls(f"{scheme}://host/0?socket_timeout=1")


def test_an_option_of_tls_without_tls_is_refused() -> None:
    with pytest.raises(UsageError, match="redis:// has no TLS; write rediss://"):
        split_tls("redis://host/0?ssl_cert_reqs=required")


def test_a_question_mark_in_a_password_prints_none_of_it() -> None:
    with pytest.raises(UsageError, match="write %3F") as error:
        split_tls("redis://:open?sesame@host/0")
    assert "sesame" not in str(error.value)


@pytest.mark.parametrize("name", ["CA_FILE", "CERT_FILE"])
def test_a_file_that_is_missing_or_no_certificate_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.pem"
    monkeypatch.setenv(f"HOLDFAST_TLS_{name}", str(path))
    runtime_config.cache_clear()
    with pytest.raises(UsageError, match=f"HOLDFAST_TLS_{name}: {path} is no file"):
        split_tls("rediss://host/0")
    path.write_text("no PEM\n")
    with pytest.raises(UsageError, match=f"HOLDFAST_TLS_{name}: {path} holds no certificate"):
        split_tls("rediss://host/0")


def test_a_key_without_its_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").touch()
    monkeypatch.setenv("HOLDFAST_TLS_KEY_FILE", str(tmp_path / "key"))
    runtime_config.cache_clear()
    with pytest.raises(UsageError, match="without HOLDFAST_TLS_CERT_FILE"):
        split_tls("rediss://host/0")


def test_what_is_no_address_is_left_to_whoever_connects() -> None:
    for url in ("nonsense", "http://host", "redis://[::1", "unix:///tmp/x?db=1"):
        assert split_tls(url) == (url, {})
