"""What plans depend on besides their file."""

from __future__ import annotations

from pathlib import Path

from etl.config.settings import PathSettings, Settings
from etl.runs.plan_inputs import InputLoader
from etl.state.ledger.facade import Ledger
from tests.support.builders import PRICES, mapping


def test_a_preview_keeps_to_the_size_that_norce_has_taught(tmp_path: Path) -> None:
    """A 413 taught a limit for the import: a file is planned under it, whether for a run or for a preview."""
    feed = mapping(PRICES)
    settings = Settings(paths=PathSettings(inbox=tmp_path, mappings=tmp_path, state=tmp_path / "var"))
    with Ledger.open(settings.paths.state) as ledger:
        inputs = InputLoader(settings, 7, ledger)
        assert inputs.for_file(feed, None).request_limits.max_bytes == settings.limits.max_bytes
        ledger.meta.learn_size_limit(feed.operation.id, 1000)
        assert inputs.for_file(feed, None).request_limits.max_bytes < 1000
