"""What a change set does to a shop, in its own words: prices up and down, stock to zero, products gone, texts changed.

The values that say so, and how people read them; `etl.plan.changes.impact_analysis` makes them from a plan.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from etl.contract import spec
from etl.mapping.layout import Leaf

#: How many examples people are shown of a thing.
MAX_EXAMPLES = 10

#: Upper ends of the classes of price moves in percent; the last class has none.
PRICE_CHANGE_BOUNDS = (-50.0, -30.0, -20.0, -10.0, -5.0, 0.0, 5.0, 10.0, 20.0, 30.0, 50.0)

#: Characters of a value that an example shows.
MAX_EXAMPLE_LENGTH = 80


@dataclass(frozen=True, slots=True)
class Example:
    """One record that something happens to: the texts people read, and by how many percent a number moves."""

    key: str
    field: str
    before: str | None
    after: str | None
    percent: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON; a cell may be a whole description, or worse."""
        return {
            "key": shorten(self.key),
            "field": self.field,
            "before": shorten(self.before),
            "after": shorten(self.after),
            "percent": self.percent,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """How many records something happens to, and the largest of them."""

    count: int = 0
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class FieldChange:
    """What happens to one field of the records that Norce has already."""

    name: str
    role: str | None
    changed: int  #: records whose value differs, filled and cleared ones among them
    filled: int  #: had no value before
    cleared: int
    examples: tuple[Example, ...]
    up: int = 0
    down: int = 0
    median_up: float | None = None  #: percent
    median_down: float | None = None
    classes: tuple[int, ...] = ()  #: of prices: records for each of CLASSES and beyond


@dataclass(frozen=True, slots=True)
class Impact:
    """Everything about one run that a shop would want to know before it is sent."""

    active: int = 0  #: records that Norce has and that are not switched off
    new: int = 0
    reappeared: int = 0  #: had been switched off by us because they were gone
    fields: tuple[FieldChange, ...] = ()
    gone: Tally = Tally()  #: no longer in the file
    deactivated: Tally = Tally()  #: gone and switched off for it, or switched off by the file
    activated: int = 0
    price_moves: Tally = Tally()  #: by more than the mapping's `by`
    price_zero: Tally = Tally()
    below_cost: Tally = Tally()
    stock_zero: Tally = Tally()
    stock_back: int = 0
    largest: tuple[Example, ...] = field(default=())  #: of all fields, prices first


def shorten(value: str | None) -> str | None:
    """The beginning of a text."""
    return value if value is None or len(value) <= MAX_EXAMPLE_LENGTH else value[:MAX_EXAMPLE_LENGTH] + "…"


def display_value(value: Any, leaf: Leaf) -> str | None:
    """A value as people write it; None stays None."""
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
    """The impact as JSON, for reports, screens and the page."""
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
