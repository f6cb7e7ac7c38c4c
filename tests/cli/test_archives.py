"""Archives in the inbox."""

from __future__ import annotations

import gzip
import io
import zipfile

from tests.support.shop import Shop, stock


def test_a_zip_and_a_gz(shop: Shop) -> None:
    """Each member is a run; a bad one does not keep the others; the archive is kept with each; a gz is one file."""
    text = (shop.mappings / "stock.yaml").read_text().replace("content: full", "content: changes")
    shop.mapping(text.replace('"stock*.csv"', '["day.zip/*.csv", "stock.csv.gz"]'))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        packed.writestr("../1.csv", stock(("A1", "5")))
        packed.writestr("2.csv", "Art;Days\nA1;3\n")
        packed.writestr("3.csv", stock(("A2", "6")))
        packed.writestr("notes.txt", "hello")
    shop.drop(stream.getvalue(), "day.zip")
    done = shop.once()
    assert done.status == 1
    assert [(run["file"], run["state"]) for run in done.json["runs"]] == [
        ("day.zip/../1.csv", "merged"), ("day.zip/2.csv", "invalid"), ("day.zip/3.csv", "completed"),
    ]  # fmt: skip
    assert "day.zip/notes.txt" in done.err
    assert shop.claimed() == []
    assert not list(shop.inbox.iterdir())
    for run in done.json["runs"]:
        assert (shop.archive(run["run"]) / "source" / "day.zip").read_bytes() == stream.getvalue()
    last = done.json["runs"][-1]["run"]
    again = shop.etl("rerun", last, "--json")
    assert (again.status, again.run["file"], again.run["unchanged"]) == (0, "day.zip/3.csv", 1)

    shop.drop(gzip.compress(stock(("A1", "5"), ("A2", "7")).encode()), "stock.csv.gz")
    assert shop.once().run["changed"] == 1
