"""What docs/operations.md and docs/sftp.md tell to do with a service is done as written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sftp.servers import SSHD
from tests.support.shop import ETL, SECRET, Shop, stock

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "connect-etl.service"
IMAGE = ROOT / "deploy" / "Containerfile"


def block(document: str, kind: str) -> str:
    """A fenced block of a document by the words behind its fence."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    found = re.search(rf"(?ms)^```{re.escape(kind)}\n(.*?)^```", text)
    assert found is not None
    return found[1]


def run_as_written(shop: Shop, script: str, backup: Path) -> subprocess.CompletedProcess[str]:
    """A block in a shell; `systemctl` only writes down what it was told."""
    folder = shop.root / "bin"
    folder.mkdir(exist_ok=True)
    for name, line in (("systemctl", f'echo "$@" >> {shop.root}/systemctl'), ("etl", f'exec {ETL} "$@"')):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "STATE": str(shop.state), "BACKUP": str(backup)}
    return subprocess.run(
        ["/bin/sh", "-eu", "-c", script], cwd=shop.root, env=env | {"ETL_CLIENT_SECRET": SECRET}, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def test_back_up_and_restore(shop: Shop, tmp_path: Path) -> None:
    """The folder of the back-up is whole, knows what was accepted then, and sends again what came after it."""
    backup = tmp_path / "state.tar.gz"
    shop.drop(stock(("A1", "5")))
    assert shop.once().status == 0
    made = run_as_written(shop, block("operations.md", "sh backup"), backup)
    assert made.returncode == 0, made.stderr
    shop.drop(stock(("A1", "5"), ("A2", "6")))
    assert shop.once().run["new"] == 1
    restored = run_as_written(shop, block("operations.md", "sh restore"), backup)
    assert restored.returncode == 0, restored.stderr
    assert "has no problems" in restored.stdout
    assert (shop.root / "systemctl").read_text().split("\n")[:2] == ["stop connect-etl", "start connect-etl"]
    assert shop.state.stat().st_mode & 0o777 == 0o700
    shop.drop(stock(("A1", "5"), ("A2", "6")))
    again = shop.once()
    assert (again.status, again.run["unchanged"], again.run["new"]) == (0, 1, 1)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_hardened() -> None:
    """systemd understands every line, and finds little that the service may do (10 is everything)."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "Unknown" not in done.stderr


def test_the_unit_calls_what_exists() -> None:
    """The command is one of ours, the secret comes by a file, and a stop leaves time for the request in hand."""
    text = UNIT.read_text(encoding="utf-8")
    assert re.search(r"(?m)^ExecStart=\S+/etl run$", text)
    assert "ETL_CLIENT_SECRET_FILE=%d/client-secret" in text
    assert not re.search(r"(?m)^Environment=.*ETL_CLIENT_SECRET=", text)
    stop = re.search(r"(?m)^TimeoutStopSec=(\d+)$", text)
    assert stop is not None
    assert int(stop[1]) >= 120


def test_the_image_is_made_with_care() -> None:
    """Pinned bases, hashes for what is installed, no root, no secret in it, commands without a shell, files that
    exist."""
    lines = IMAGE.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#")]
    known = {"FROM", "WORKDIR", "RUN", "COPY", "ENV", "USER", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in words} <= known
    given = {word: [rest for each, rest in words if each == word] for word in known}
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", base) for base in given["FROM"])
    assert given["USER"][-1].isdecimal()
    assert int(given["USER"][-1]) > 0
    assert all("--require-hashes" in step or "--no-deps" in step for step in given["RUN"] if "pip install" in step)
    assert not re.search(r"(?i)(secret|password|token)=(?!/)", " ".join(given["ENV"]))
    for word in ("ENTRYPOINT", "CMD", "VOLUME"):
        assert all(isinstance(json.loads(rest), list) for rest in given[word])
    for rest in given["COPY"]:
        if not rest.startswith("--from"):
            assert all((ROOT / source).exists() for source in rest.split()[:-1])


def test_the_image_builds(tmp_path: Path) -> None:
    """Where an engine is present, and the base image can be had."""
    engine = next((name for name in ("podman", "docker") if shutil.which(name)), None)
    if engine is None or subprocess.run([engine, "info"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("no engine for containers is running")
    base = re.search(r"(?m)^FROM (\S+)", IMAGE.read_text(encoding="utf-8"))
    assert base is not None
    if subprocess.run([engine, "pull", "--quiet", base[1]], capture_output=True, timeout=300, check=False).returncode:
        pytest.skip("the base image cannot be had")
    done = subprocess.run(
        [engine, "build", "--quiet", "-f", str(IMAGE), str(ROOT)], capture_output=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(SSHD is None, reason="OpenSSH's sshd is not installed")
def test_the_servers_settings_are_understood(tmp_path: Path) -> None:
    """sshd takes the block of docs/sftp.md as it stands there."""
    assert SSHD is not None
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    config = tmp_path / "sshd_config"
    config.write_text(f"HostKey {tmp_path / 'host'}\n" + block("sftp.md", "sshd"))
    Path("/run/sshd").mkdir(exist_ok=True)
    done = subprocess.run([SSHD, "-t", "-f", str(config)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_the_logs_settings_are_understood(tmp_path: Path) -> None:
    """logrotate takes the block of docs/operations.md."""
    config = tmp_path / "connect-etl"
    config.write_text(block("operations.md", "logrotate"))
    config.chmod(0o644)
    done = subprocess.run(
        ["logrotate", "--debug", "--state", str(tmp_path / "state"), str(config)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr.lower()
