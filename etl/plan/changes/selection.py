"""Selects records by part numbers, or by other parts of their keys. Pure."""

from __future__ import annotations

from collections.abc import Collection

import polars as pl

from etl.errors import InvalidFileError
from etl.model.columns import KEY
from etl.model.keys import IDENTIFIER_PREFIXES, KEY_SEPARATOR
from etl.model.tables import Records

_IDENTIFIER_PATTERN = f"^({'|'.join(IDENTIFIER_PREFIXES)})"


def select_keys(records: Records, selected_keys: Collection[str], feed: str) -> Records:
    """Select the records with one of these words in their key. Raises InvalidFileError for a word that no key has."""
    words = pl.col(KEY).str.split(KEY_SEPARATOR).list.eval(pl.element().str.replace(_IDENTIFIER_PATTERN, ""))
    keys = records.frame.select(pl.col(KEY), words.alias("words"))
    known_words = set(keys["words"].explode().unique().to_list())
    missing = [word for word in selected_keys if word not in known_words]
    if missing:
        raise InvalidFileError(
            "keys-unknown",
            f"no record can be sent for {', '.join(missing[:10])}{' and others' if len(missing) > 10 else ''}",
            where=feed,
            hint="look whether they are in the file, spelt like that, and among its good rows (`etl preview`)",
        )
    selected = keys.filter(pl.col("words").list.eval(pl.element().is_in(list(selected_keys))).list.any())
    frame = records.frame.join(selected.select(KEY), on=KEY, how="semi", maintain_order="left")
    return Records(frame, records.row_numbers)
