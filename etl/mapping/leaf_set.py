"""Sets of leaves: an integer with one bit per leaf, or word columns that hold a set for each row of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

#: Leaves per word column.
WORD_BITS = 62

#: Prefixes of word columns: the leaves to send, those that the row could send, and, in a request whose rows do not
#: share a set, those that the row is sent with.
TO_SEND, SENDABLE, OWN_SET = "_c", "_v", "_o"


def count_words(leaf_count: int) -> int:
    """Return the number of words that hold a set of so many leaves, at least one."""
    return max(1, -(-leaf_count // WORD_BITS))


def word_columns(prefix: str, word_count: int) -> list[str]:
    """Return the names of the word columns with this prefix."""
    return [f"{prefix}{word}" for word in range(word_count)]


def own_set_columns(frame: pl.DataFrame) -> list[str]:
    """Return the word columns of each row's own set; none where all rows share the request's set."""
    return [name for name in word_columns(OWN_SET, len(frame.columns)) if name in frame.columns]


def split_words(bits: int, word_count: int) -> list[int]:
    """Split a set into words."""
    return [bits >> word * WORD_BITS & (1 << WORD_BITS) - 1 for word in range(word_count)]


def join_words(words: Iterable[int]) -> int:
    """Join words to a set; the opposite of `split_words`."""
    bits = 0
    for number, word in enumerate(words):
        bits |= word << (number * WORD_BITS)
    return bits


def has_leaf(prefix: str, index: int) -> pl.Expr:
    """Return a condition: the row's set in these word columns has the leaf with this index."""
    word, bit = divmod(index, WORD_BITS)
    return pl.col(f"{prefix}{word}") & pl.lit(1 << bit, dtype=pl.UInt64) != 0


def pack_conditions(prefix: str, conditions: Mapping[int, pl.Expr], word_count: int) -> list[pl.Expr]:
    """Return word columns of the set of the leaves whose condition is true in the row."""
    return [_pack_word(conditions, word).alias(name) for word, name in enumerate(word_columns(prefix, word_count))]


def _pack_word(conditions: Mapping[int, pl.Expr], word: int) -> pl.Expr:
    bits = [
        pl.when(condition).then(pl.lit(1 << index % WORD_BITS, dtype=pl.UInt64)).otherwise(pl.lit(0, dtype=pl.UInt64))
        for index, condition in conditions.items()
        if index // WORD_BITS == word
    ]
    return pl.sum_horizontal(bits) if bits else pl.lit(0, dtype=pl.UInt64)
