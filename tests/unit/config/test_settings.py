"""Settings: strict, with the place of every mistake, and no secret anywhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from etl.config import secrets
from etl.config.settings import load_settings, parse_settings
from etl.errors import SettingsError

GOOD = """
[connect]
base_url = "https://acme.api-se.playground.norce.tech/"
scope = "playground"
application_id = 1234
account_id = 7
client_id = "abc"

[paths]
inbox = "in"

[limits]
max_records = 500
per_seconds = 30
"""


def test_a_whole_file_is_read() -> None:
    """Given values are taken, the others are defaults."""
    settings = parse_settings(GOOD)
    assert settings.connect is not None
    assert settings.connect.token_endpoint == ("https://acme.api-se.playground.norce.tech/identity/1.0/connect/token")
    assert settings.connect.target == "https://acme.api-se.playground.norce.tech application 1234"
    assert (settings.limits.requests, settings.limits.max_records, settings.limits.per_seconds) == (60, 500, 30.0)
    assert settings.watch.settle_seconds > 0


@pytest.mark.parametrize(
    ("change", "code", "parts"),
    [
        (("max_records", "max_record"), "settings-unknown-key", ["etl.toml:13", 'did you mean "max_records"']),
        (("[paths]", "[path]"), "settings-unknown-key", ["etl.toml:9", 'did you mean "paths"']),
        (("scope", "client_secret"), "settings-secret", ["etl.toml:4", "ETL_CLIENT_SECRET"]),
        (("account_id = 7", ""), "settings-missing-key", ["connect.account_id is missing"]),
        (("max_records = 500", "max_records = 0"), "settings-value", ["etl.toml:13", "limits.max_records"]),
        (("max_records = 500", 'max_records = "500"'), "settings-value", ["expected `int`"]),
        (("https://acme", "http://acme"), "settings-url-plain", ["etl.toml:3", "unencrypted"]),
        (("https://acme", "ftp://acme"), "settings-url", ["not a web address"]),
        (("https://acme", "https://user:pw@acme"), "settings-url", ["more than an address"]),
        (('"in"', "in"), "settings-syntax", ["etl.toml:10"]),
    ],
)
def test_mistakes_are_named_with_place_and_hint(change: tuple[str, str], code: str, parts: list[str]) -> None:
    """Every mistake has a code, the line, and what to do."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(GOOD.replace(*change))
    assert caught.value.code == code
    for part in parts:
        assert part in str(caught.value)


def test_plain_http_is_for_this_machine() -> None:
    """Loopback addresses may be plain, for the sandbox."""
    text = GOOD.replace("https://acme.api-se.playground.norce.tech/", "http://127.0.0.1:8700")
    settings = parse_settings(text)
    assert settings.connect is not None
    assert settings.connect.token_endpoint.startswith("http://127.0.0.1:8700/identity")


def test_paths_count_from_the_settings_file(tmp_path: Path) -> None:
    """Relative paths are anchored at the folder of the file, wherever the command was started."""
    file = tmp_path / "conf" / "etl.toml"
    file.parent.mkdir()
    file.write_text(GOOD)
    for settings in (load_settings(file, {}), load_settings(None, {"ETL_CONFIG": str(file)})):
        assert settings.paths.inbox == file.parent / "in"
        assert settings.paths.state == file.parent / "var"


def test_without_a_file_there_is_no_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No etl.toml: defaults and connect None; a file that was named must exist."""
    monkeypatch.chdir(tmp_path)
    assert load_settings(None, {}).connect is None
    with pytest.raises(SettingsError, match="no settings file"):
        load_settings(None, {"ETL_CONFIG": "gone.toml"})


def test_the_secret_comes_from_environment_or_file(tmp_path: Path) -> None:
    """The variable wins, else the named file without its last line break."""
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    assert secrets.load_client_secret({"ETL_CLIENT_SECRET": "direct"}).reveal() == "direct"
    assert secrets.load_client_secret({"ETL_CLIENT_SECRET_FILE": str(file)}).reveal() == "s3cret"
    file.write_text("\n")
    for environ in ({}, {"ETL_CLIENT_SECRET_FILE": str(file)}, {"ETL_CLIENT_SECRET_FILE": str(tmp_path / "no")}):
        with pytest.raises(SettingsError):
            secrets.load_client_secret(environ)


def test_a_secret_never_shows_itself() -> None:
    """Not in repr, str, formatting or pickles."""
    secret = secrets.Secret("hidden")
    assert "hidden" not in f"{secret} {secret!r} {[secret]}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_status_needs_neither_polars_nor_httpx() -> None:
    """Settings and ledger load without the heavy modules."""
    code = (
        "import sys, etl.config.settings, etl.state.ledger.facade;"
        "sys.exit(' '.join({'polars', 'httpx', 'structlog', 'ruamel.yaml', 'etl.contract.spec'} & set(sys.modules)))"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr.strip() == ""
    )


FETCH = """
[fetch.acme]
host = "sftp.acme.example"
user = "norce"
known_hosts = "known_hosts"
"""


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("[fetch.acme]\nhost = 'h'\nknown_hosts = 'k'", "settings-missing-key", ""),
        (FETCH + "passwd = 'x'", "settings-secret", "6"),
        (FETCH + "folders = 'x'", "settings-unknown-key", "6"),
        (FETCH + "schedule = 'hourly'", "settings-fetch", "2"),
        (FETCH + "after = 'move'", "settings-fetch", "2"),
        (FETCH + "after = 'burn'", "settings-value", "6"),
        (FETCH + "into = '../x'", "settings-fetch", "2"),
        (FETCH + "checksum = '{date}.md5'", "settings-fetch", "2"),
        (FETCH.replace("acme]", "Acme]"), "settings-fetch", "2"),
    ],
)
def test_mistakes_of_a_server_are_named(text: str, code: str, line: str) -> None:
    """Whatever cannot work is refused before anything starts, with the place where it can be found."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "etl.toml")
    assert caught.value.code == code
    assert line in (caught.value.where or "")


def test_a_servers_password_comes_from_the_environment(tmp_path: Path) -> None:
    """From a variable or the file that one names; a key needs none, else it is asked for by its variable's name."""
    fetch = parse_settings(FETCH).fetch["acme"]
    found = secrets.load_fetch_secret("acme-se", fetch, {"ETL_FETCH_ACME_SE_PASSWORD": "x y"})
    assert found is not None
    assert found.reveal() == "x y"
    (tmp_path / "p").write_text("z\n")
    found = secrets.load_fetch_secret("acme", fetch, {"ETL_FETCH_ACME_PASSWORD_FILE": str(tmp_path / "p")})
    assert found is not None
    assert found.reveal() == "z"
    with pytest.raises(SettingsError) as caught:
        secrets.load_fetch_secret("acme", fetch, {})
    assert "ETL_FETCH_ACME_PASSWORD" in caught.value.hint
    assert secrets.load_fetch_secret("acme", parse_settings(FETCH + "key = 'k'").fetch["acme"], {}) is None


@pytest.mark.parametrize(("inbox", "state"), [("in", "in/var"), ("var/in", "var"), ("in", "in"), ("in", "link/var")])
def test_neither_of_inbox_and_state_folder_contains_the_other(tmp_path: Path, inbox: str, state: str) -> None:
    """The program would take its own files for exports; links are looked through."""
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    file = tmp_path / "etl.toml"
    file.write_text(f'[paths]\ninbox = "{inbox}"\nstate = "{state}"\n', encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file)
    assert caught.value.code == "settings-paths"
    assert str(caught.value.where).startswith(f"{file}:3")
    file.write_text('[paths]\ninbox = "in"\nstate = "var"\n', encoding="utf-8")
    assert load_settings(file).paths.state == tmp_path / "var"
