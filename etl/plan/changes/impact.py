"""The impact of a run on a shop: prices up and down, stock to zero, missing products, changed texts.

`etl.plan.changes.impact_analysis` computes these values; this module also shows them to people and as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from etl.contract import spec
from etl.mapping.layout import Leaf

#: Most examples of a count.
MAX_EXAMPLES = 10

#: Upper bounds of the classes of price changes in percent; the last class has none.
PRICE_CHANGE_BOUNDS = (-50.0, -30.0, -20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0, 30.0, 50.0)

#: Most characters of a value in an example.
MAX_EXAMPLE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a count: its values as texts, and the change of a number in percent."""

    key: str
    field: str
    before: str | None
    after: str | None
    percent: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the example as JSON; long texts are shortened."""
        return {
            "key": shorten(self.key),
            "field": self.field,
            "before": shorten(self.before),
            "after": shorten(self.after),
            "percent": self.percent,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """A number of records, with the largest changes as examples."""

    count: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """The changes of one field in existing records."""

    name: str
    role: str | None
    changed: int  #: records whose value differs, with the filled and cleared ones
    filled: int  #: records without a value before
    cleared: int
    examples: tuple[Example, ...]
    up: int = 0
    down: int = 0
    median_up: float | None = None  #: percent
    median_down: float | None = None
    classes: tuple[int, ...] = ()  #: of prices: records for each class of PRICE_CHANGE_BOUNDS, and the last one


@dataclass(frozen=True, slots=True)
class Impact:
    """The impact of one run, for people who approve it."""

    active: int = 0  #: accepted records that are not deactivated
    new: int = 0
    reappeared: int = 0  #: deactivated records that are in the file again
    fields: tuple[FieldChange, ...] = ()
    gone: Tally = Tally()  #: missing records
    deactivated: Tally = Tally()  #: missing records that are deactivated, and records that the file deactivates
    activated: int = 0
    price_moves: Tally = Tally()  #: changes by more than the mapping's `by`
    price_zero: Tally = Tally()
    below_cost: Tally = Tally()
    stock_zero: Tally = Tally()
    stock_back: int = 0
    largest: tuple[Example, ...] = field(default=())  #: of all fields, prices first


def shorten(value: str | None) -> str | None:
    """Shorten a text to MAX_EXAMPLE_LENGTH characters."""
    return value if value is None or len(value) <= MAX_EXAMPLE_LENGTH else value[:MAX_EXAMPLE_LENGTH] + "…"


def display_value(value: Any, leaf: Leaf) -> str | None:
    """Return a value as people write it; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and leaf.field.type == "enum":
        names = {
            number: name for name, number in spec.load_contract().enums.get(str(leaf.field.inner_type), {}).items()
        }
        return names.get(value, str(value))
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def impact_to_json(impact: Impact) -> dict[str, Any]:
    """Return the impact as JSON, for reports, screens and the page."""
    return {
        "active": impact.active,
        "new": impact.new,
        "reappeared": impact.reappeared,
        "gone": impact.gone.count,
        "deactivated": impact.deactivated.count,
        "activated": impact.activated,
        "stock_zero": impact.stock_zero.count,
        "stock_back": impact.stock_back,
        "texts": sum(change.changed for change in impact.fields if change.role == "text"),
        "fields": [
            {
                "field": change.name,
                "role": change.role,
                "changed": change.changed,
                "filled": change.filled,
                "cleared": change.cleared,
                "up": change.up,
                "down": change.down,
                "median_up": change.median_up,
                "median_down": change.median_down,
                "classes": list(change.classes),
            }
            for change in impact.fields
        ],
        "largest": [example.to_json() for example in impact.largest],
        "gone_examples": [example.to_json() for example in impact.gone.examples],
    }
