"""`etl restart` against the sandbox."""

from __future__ import annotations

from etl.sandbox import Fault
from tests.support.shop import STOCK, Shop, stock


def test_a_failed_job_is_restarted(shop: Shop) -> None:
    """What failed in Norce runs again there; it counts as accepted only when a run has sent it."""
    shop.sandbox.inject(Fault(kind="job_failed", times=2))
    shop.drop(stock(("A1", "5")))
    first, second = (job["id"] for job in shop.once().run["jobs"])
    refused = shop.etl("restart", str(first))
    assert (refused.status, "job-outdated" in refused.err) == (1, True)
    done = shop.etl("restart", str(second))
    assert done.status == 0
    assert "it has ended: succeeded" in done.out
    assert [key.split("|")[0] for key in shop.sandbox.records(STOCK)] == ["A1"]
    shop.drop(stock(("A1", "5")))
    assert shop.once().run["records_sent"] == 1
    assert shop.etl("restart", str(second)).status == 1
    assert shop.etl("restart", "4711").status == 2
