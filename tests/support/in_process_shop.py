"""A shop whose commands run in this process: no second of importing each, for tests of many commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from click.testing import CliRunner

from etl import log
from etl.cli.main import main
from etl.sandbox import SandboxSettings
from tests.support.shop import SECRET, Done, Shop, open_shop


class InProcessShop(Shop):
    """`start` still starts a real process."""

    def etl(self, *words: str, secret: str | None = SECRET, columns: int = 100, **more: Any) -> Done:
        """Run the command from start to end."""
        env = {name: None for name in os.environ if name.startswith("ETL_")}
        given = {"ETL_CLIENT_SECRET": secret, "NO_COLOR": "1", "COLUMNS": str(columns)}
        here = os.getcwd()
        os.chdir(self.root)
        try:
            result = CliRunner().invoke(main, list(words), env={**env, **given, **more})
        finally:
            os.chdir(here)
            structlog.reset_defaults()
            log._deferred_setup = None
        self.said += [result.stdout, result.stderr]
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)


@contextlib.contextmanager
def open_in_process_shop(root: Path, settings: SandboxSettings | None = None) -> Iterator[InProcessShop]:
    """Open a shop with a sandbox, both in this process."""
    with open_shop(root, settings, InProcessShop) as shop:
        assert isinstance(shop, InProcessShop)
        yield shop
