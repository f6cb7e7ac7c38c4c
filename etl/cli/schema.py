"""`etl schema`: the mapping language as JSON Schema."""

from __future__ import annotations

import json

import click

from etl.errors import ExitStatus
from etl.mapping import json_schema


def print_schema() -> ExitStatus:
    """Print the schema."""
    click.echo(json.dumps(json_schema.build_schema(), indent=1, ensure_ascii=False))
    return ExitStatus.OK
