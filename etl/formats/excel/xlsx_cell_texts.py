"""Stored values of many cells as people see them: `xlsx_cells.stored` for whole columns.

Only what is certainly the same is done at once; each other value that occurs is handed to the exact function, once.
"""

from __future__ import annotations

import polars as pl

from etl.formats.excel.xlsx_cells import WorkbookData, cell_text

#: Numbers that are shown as they are stored: whole ones, and fractions in their shortest form.
WHOLE_NUMBER, SHORTEST_FRACTION = "^-?[0-9]+$", r"^-?(?:0|[1-9][0-9]*)\.[0-9]*[1-9]$"
LONG_FRACTION = r"^-?(?:0|[1-9][0-9]{0,9})\.[0-9]{1,25}$"
SHOWN_DIGITS = 15  #: that Excel shows


def cell_texts(cells: pl.DataFrame, book: WorkbookData) -> pl.DataFrame:
    """Return the text of every cell from its raw, kind, code and how; `fault` where it holds no value."""
    raw, kind, how = pl.col("raw"), pl.col("kind"), pl.col("how")
    kinds, hows = set(cells["kind"].unique()), set(cells["how"].unique())
    texts = [pl.when(kind.is_in(["str", "inlineStr"]) & ~raw.str.contains("_x", literal=True)).then(raw)]
    if "s" in kinds:
        cells = cells.with_columns(_shared_texts(cells, book.shared_texts))
        texts.append(pl.when(kind == "s").then("shared"))
    if "n" in kinds:
        short = raw.str.len_bytes() <= SHOWN_DIGITS + 1 + raw.str.starts_with("-")
        exact = raw.str.contains(WHOLE_NUMBER) | (raw.str.contains(SHORTEST_FRACTION) & short)
        texts.append(pl.when((kind == "n") & (how == "") & exact).then(raw))
    zeros = [one for one in hows if one and not one.strip("0")]
    if zeros:
        padded = raw.str.zfill(how.str.len_bytes() - 1)
        texts.append(pl.when((kind == "n") & how.is_in(zeros) & raw.str.contains("^[0-9]+$")).then(padded))
    cells = cells.with_columns(pl.coalesce(texts).alias("text"))
    longer = pl.col("text").is_null() & (kind == "n") & (how == "")
    if "n" in kinds and cells.select(longer.any()).item():
        cells = cells.with_columns(pl.when(longer).then(_round_to_shown_digits(raw)).otherwise("text").alias("text"))
    return _convert_rest(cells, book)


def _shared_texts(cells: pl.DataFrame, shared: pl.Series) -> pl.Series:
    """Return the texts that cells point to; null where they point to none."""
    raw = pl.when((pl.col("kind") == "s") & pl.col("raw").str.contains("^[0-9]{1,9}$")).then("raw").cast(pl.UInt32)
    index = cells.select(pl.when(raw < shared.len()).then(raw)).to_series()
    return shared.gather(index).alias("shared")


def _round_to_shown_digits(raw: pl.Expr) -> pl.Expr:
    """Round numbers such as 44221.290000000001; null where the result is not certain.

    Polars proposes a number, and it counts if it has fifteen digits or fewer and is nearer to the stored number than a
    third of the last digit: no other number of fifteen digits can then be the nearest.
    """
    fits = pl.when(raw.str.contains(LONG_FRACTION)).then(raw)
    value = fits.cast(pl.Float64)
    rounded = value.round_sig_figs(SHOWN_DIGITS)
    text = rounded.cast(pl.String).str.strip_suffix(".0")
    digits = text.str.replace(".", "", literal=True).str.strip_chars_start("-0").str.len_bytes()
    whole = fits.str.extract(r"^-?0*([0-9]*)", 1).str.len_bytes().cast(pl.Int32)
    zeros = fits.str.extract(r"^-?0\.(0*)", 1).str.len_bytes().cast(pl.Int32).fill_null(0)
    unit = pl.lit(10.0).pow((whole - zeros - SHOWN_DIGITS).cast(pl.Float64))
    near = (value - rounded).abs() < unit * 0.33
    plain = text.str.contains(r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?$") & (text != "-0")
    return pl.when(near & plain & (digits <= SHOWN_DIGITS)).then(text)


def _convert_rest(cells: pl.DataFrame, book: WorkbookData) -> pl.DataFrame:
    rest = cells.filter(pl.col("text").is_null()).select("kind", "raw", "code").unique()
    if not rest.height:
        return cells.with_columns(pl.lit(False).alias("fault"))
    texts, faults = [], []
    for kind, raw, code in rest.iter_rows():
        try:
            texts.append(cell_text(kind, raw, code, book))
            faults.append(False)
        except (ValueError, ArithmeticError):
            texts.append(raw)
            faults.append(True)
    rest = rest.with_columns(pl.Series("one", texts, pl.String), pl.Series("fault", faults, pl.Boolean))
    return cells.join(rest, on=["kind", "raw", "code"], how="left", maintain_order="left").with_columns(
        pl.coalesce("text", "one").alias("text"), pl.col("fault").fill_null(False)
    )
