"""A shop whose commands run in this process: no second of importing each, for tests of many commands."""

from __future__ import annotations

import os
from typing import Any

import structlog
from click.testing import CliRunner

from etl import log
from etl.cli.main import main
from tests.support.shop import SECRET, Done, Shop


class Near(Shop):
    """`start` still starts a real process."""

    def etl(self, *words: str, secret: str | None = SECRET, columns: int = 100, **more: Any) -> Done:
        """The command from start to end."""
        env = {name: None for name in os.environ if name.startswith("ETL_")}
        given = {"ETL_CLIENT_SECRET": secret, "NO_COLOR": "1", "COLUMNS": str(columns)}
        here = os.getcwd()
        os.chdir(self.root)
        try:
            found = CliRunner().invoke(main, list(words), env={**env, **given, **more})
        finally:
            os.chdir(here)
            structlog.reset_defaults()
            log._deferred_setup = None
        self.said += [found.stdout, found.stderr]
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return Done(found.exit_code, found.stdout, found.stderr)
