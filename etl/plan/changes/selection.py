"""Which records somebody means who names part numbers, or any other part of their keys. Pure."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from etl.errors import FileRefused
from etl.model.columns import KEY
from etl.model.tables import Records

#: How a key's part begins where the first identifier given decides.
_IDENTIFIER = r"^(Id|Code|EmailAddress|OrganizationNo)="


def only(records: Records, wanted: Collection[str], feed: str) -> Records:
    """The records with one of these words in their key. Raises FileRefused when one of them is in none."""
    words = pl.col(KEY).str.split("\x1f").list.eval(pl.element().str.replace(_IDENTIFIER, ""))
    keys = records.frame.select(pl.col(KEY), words.alias("words"))
    found = set(keys["words"].explode().unique().to_list())
    missing = [word for word in wanted if word not in found]
    if missing:
        raise FileRefused(
            "keys-unknown",
            f"no record can be sent for {', '.join(missing[:10])}{' and others' if len(missing) > 10 else ''}",
            where=feed,
            hint="look whether they are in the file, spelt like that, and among its good rows (`etl preview`)",
        )
    chosen = keys.filter(pl.col("words").list.eval(pl.element().is_in(list(wanted))).list.any())
    frame = records.frame.join(chosen.select(KEY), on=KEY, how="semi", maintain_order="left")
    return Records(frame, records.rows)
