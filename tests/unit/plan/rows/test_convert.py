"""From a column to a field: what does not go is refused and named."""

from __future__ import annotations

from tests.support.builders import mapping, run, table

PARTS = """
feed: parts
operation: Product/ImportProducts
source: {files: "*.csv", content: full}
record:
  ManufacturerCode: maker
  Cultures: {sv-SE: {Name: name}}
  Variants:
    - ManufacturerPartNo: part
      Skus:
        - {PartNo: part, EanCode: ean, Type: {value: Standard}, Status: {value: Active}}
"""


def test_codes_that_a_spreadsheet_rounded_are_refused() -> None:
    """A part number or EAN in powers of ten has lost its digits; the same in a text is a text."""
    rows = ["part,ean,maker,name", "A1,4038990000012,M,N", "A2,4.03899E+12,M,N", "1.5E+10,4038990000029,M,N"]
    plan = run(mapping(PARTS), table("\n".join([*rows, "A3,,M,4.03899E+12"]))).plan
    found = plan.rejections.frame.select("row", "code", "value").unique().sort("row").rows()
    assert found == [(3, "rounded-code", "4.03899E+12"), (4, "rounded-code", "1.5E+10")]
    assert plan.counts.new == 2
