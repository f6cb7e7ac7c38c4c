"""What is printed, and what never is."""

from __future__ import annotations

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import terminal

ANY = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANY)
def test_nothing_that_is_printed_acts(text: str) -> None:
    """Every sign that a terminal acts on is replaced, all others stay, and the length with them."""
    shown = terminal.printable(text)
    assert len(shown) == len(text)
    assert shown.encode("utf-8").decode() == shown
    for before, after in zip(text, shown, strict=True):
        assert after == before or (after == "\ufffd" and not before.isprintable())
        assert ord(after) >= 0x20 or after in "\n\t"
        assert not 0x7F <= ord(after) < 0xA0


@given(ANY)
def test_escaped_json_means_the_same(text: str) -> None:
    """A program that reads our JSON gets the text as it was."""
    shown = terminal.escape_json(json.dumps([text], ensure_ascii=False))
    assert json.loads(shown) == [text]
    assert terminal.printable(shown) == shown


def test_streams_are_guarded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever writes to them, and however often it is asked for; what draws by itself finds the stream behind."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    terminal.sanitize_streams()
    terminal.sanitize_streams()
    print("a\x1b[2Jb")
    assert out.getvalue() == "a\ufffd[2Jb\n"
    assert terminal.raw_stream(sys.stdout) is out
    assert terminal.raw_stream(out) is out
