"""Golden files: how they are written, and what differs from them. `python -m tests.golden.golden` writes them anew."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.golden import inputs
from tests.golden.adapter import Golden

FOLDER = Path(__file__).parent

#: Differences of one input that are shown.
SHOWN = 6


def read(group: str) -> dict[str, Golden]:
    """What a group's inputs came to when its file was written; nothing without a file."""
    path = FOLDER / f"{group}.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def text(plans: dict[str, Golden]) -> str:
    """A golden file: one line for each input's counts, and one for each request."""
    return "{\n" + ",\n".join(f"{_line(name)}: {_input(golden)}" for name, golden in plans.items()) + "\n}\n"


def gathered(plans: Iterable[tuple[str, Golden]]) -> dict[str, Golden]:
    """Inputs by name, in their order and as a golden file holds them; two of one name are a mistake."""
    by_name: dict[str, Golden] = {}
    for name, golden in plans:
        assert name not in by_name, f"two inputs are named {name}"
        by_name[name] = golden
    return dict(json.loads(text(by_name)))


def differences(expected: dict[str, Golden], plans: dict[str, Golden]) -> Iterator[str]:
    """For each input that comes out differently its name, and below it what differs."""
    for name in dict.fromkeys([*expected, *plans]):
        if name not in plans:
            yield f"{name}: the input is gone"
        elif name not in expected:
            yield f"{name}: the input is new"
        else:
            wrong = list(_differ(expected[name], plans[name]))
            more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
            if wrong:
                yield "\n    ".join([f"{name}:", *wrong[:SHOWN], *more])


def _differ(old: Golden, new: Golden) -> Iterator[str]:
    for part in dict.fromkeys([*old, *new]):
        if part == "requests" and part in old and part in new:
            yield from _requests(old[part], new[part])
        elif isinstance(old.get(part), dict) and isinstance(new.get(part), dict):
            yield from _values(part, old[part], new[part], 0)
        elif old.get(part) != new.get(part):
            yield f"{part}: {_line(old.get(part))} before, {_line(new.get(part))} now"


def _requests(old: list[Golden], new: list[Golden]) -> Iterator[str]:
    if len(old) != len(new):
        yield f"requests: {len(old)} before, {len(new)} now"
    for number, (one, two) in enumerate(zip(old, new, strict=False), 1):
        yield from _values(f"request {number}", one, two, None)


def _values(place: str, old: Golden, new: Golden, missing: int | None) -> Iterator[str]:
    found = [name for name in dict.fromkeys([*old, *new]) if _line(old.get(name)) != _line(new.get(name))]
    for name in found:
        before, now = (_line(each.get(name, missing)) for each in (old, new))
        yield f"{place}, {name}: {before} before, {now} now"
    if not found and list(old) != list(new):
        yield f"{place}: {', '.join(old)} before, {', '.join(new)} now"


def _input(golden: Golden) -> str:
    rest = _line({name: value for name, value in golden.items() if name != "requests" and value not in ("", {})})
    if not golden.get("requests"):
        return rest
    lines = ",\n  ".join(_line(request) for request in golden["requests"])
    return f'{rest[:-1]}, "requests": [\n  {lines}\n]}}'


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def main(folder: Path) -> None:
    """Write all golden files; that of the real exports only where these are at hand."""
    for group, plans in inputs.GROUPS.items():
        _write(group, gathered(plans()))
    if folder.is_dir():
        _write(inputs.SAMPLES, gathered(inputs.samples(folder)))
    else:
        print(f"{inputs.SAMPLES}.json stays as it is: there are no real exports", file=sys.stderr)


def _write(group: str, plans: dict[str, Golden]) -> None:
    changed = list(differences(read(group), plans))
    (FOLDER / f"{group}.json").write_text(text(plans), encoding="utf-8")
    print(f"{group}.json: {len(plans)} inputs, {len(changed)} changed")
    for line in changed:
        print(f"  {line.partition(chr(10))[0]}")


if __name__ == "__main__":
    main(Path(os.environ.get("ETL_SAMPLES") or inputs.ROOT.parent / "shared" / "samples"))
