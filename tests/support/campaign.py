"""How much is tried of what could be tried without end: a few examples in `make test`, all of them in a campaign.

`ETL_PROFILE=campaign` asks for all of them (`make properties`). The make targets of single campaigns ask for numbers of
their own.
"""

from __future__ import annotations

import os

from hypothesis import settings

PROFILE = os.environ.get("ETL_PROFILE", "ci")

#: No deadline: a machine under load is no finding.
settings.register_profile("ci", deadline=None, max_examples=50)
settings.register_profile("campaign", deadline=None, max_examples=1000)


def few_or_all(few: int, all_of_them: int) -> int:
    """Return the number of examples for the profile."""
    return all_of_them if PROFILE == "campaign" else few
