"""The pause for all requests while Connect does not answer."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from etl.apply.circuit_breaker import FIRST_PAUSE, MAX_PAUSE, CircuitBreaker
from etl.errors import ConnectUnreachableError

ERROR = ConnectUnreachableError("connect-unreachable", "no route", where="host", hint="wait")


class Longest(random.Random):
    """Chance that always gives the longest pause, or half of it."""

    value = 1.0

    def random(self) -> float:
        return self.value


@dataclass
class Scene:
    """A circuit breaker with a clock that the test sets, and its events."""

    timeout: float | None = None
    jitter: float = 1.0
    at: float = 100.0
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = Longest()
        chance.value = self.jitter
        self.breaker = CircuitBreaker(emit=self.emit, timeout=self.timeout, rng=chance, clock=lambda: self.at)

    def emit(self, name: str, /, **facts: object) -> None:
        self.events.append((name, facts))


def test_pauses_double_up_to_the_longest() -> None:
    """The first is a second long, whatever number of failures came before the longest."""
    scene = Scene()
    pauses = [scene.breaker.record_failure(ERROR) for _ in range(20)]
    assert pauses[:7] == [FIRST_PAUSE * 2**number for number in range(6)] + [MAX_PAUSE]
    assert set(pauses[7:]) == {MAX_PAUSE}


def test_chance_halves_a_pause_at_most() -> None:
    """So that not all processes ask again at the same moment."""
    assert Scene(jitter=0.0).breaker.record_failure(ERROR) == FIRST_PAUSE / 2
    assert Scene(jitter=0.5).breaker.record_failure(ERROR) == FIRST_PAUSE * 0.75


def test_a_pause_passes_with_time() -> None:
    """What is left of it, and never less than nothing."""
    scene = Scene()
    assert scene.breaker.remaining_pause() == 0.0
    scene.breaker.record_failure(ERROR)
    scene.at += 0.25
    assert scene.breaker.remaining_pause() == 0.75
    scene.at += 5.0
    assert scene.breaker.remaining_pause() == 0.0


def test_any_response_ends_the_pause_and_the_count() -> None:
    """The next failure begins with the first pause again; a success without a failure before it says nothing."""
    scene = Scene()
    scene.breaker.record_success()
    assert scene.events == []
    for _ in range(3):
        scene.breaker.record_failure(ERROR)
    scene.breaker.record_success()
    assert scene.breaker.remaining_pause() == 0.0
    assert scene.events[-1] == ("connect_resumed", {"failures": 3})
    assert scene.breaker.record_failure(ERROR) == FIRST_PAUSE
    assert scene.events[-1] == ("connect_paused", {"seconds": 1.0, "reason": "no route"})


def test_after_the_timeout_without_any_response_it_gives_up() -> None:
    """Counted from the first failure in a row, and at its very end; the error keeps message and place."""
    scene = Scene(timeout=10.0)
    scene.breaker.record_failure(ERROR)
    scene.at += 9.5
    scene.breaker.record_failure(ERROR)
    scene.at += 0.5
    with pytest.raises(ConnectUnreachableError, match="no route") as caught:
        scene.breaker.record_failure(ERROR)
    assert (caught.value.code, caught.value.where) == ("connect-unreachable", "host")
    assert "goes on where this one stopped" in str(caught.value.hint)


def test_a_response_begins_the_timeout_again() -> None:
    """Only failures without any response in between count."""
    scene = Scene(timeout=10.0)
    scene.breaker.record_failure(ERROR)
    scene.at += 9.0
    scene.breaker.record_success()
    scene.at += 9.0
    assert scene.breaker.record_failure(ERROR) == FIRST_PAUSE


@pytest.mark.parametrize(("later", "pause"), [(8.0, 2.0), (9.0, 1.0), (9.99, 0.05)])
def test_no_pause_lasts_beyond_the_timeout(later: float, pause: float) -> None:
    """The last try is made when the time is up, or a moment later."""
    scene = Scene(timeout=10.0)
    for _ in range(5):
        scene.breaker.record_failure(ERROR)
    scene.at += later
    assert scene.breaker.record_failure(ERROR) == pytest.approx(pause)
    assert scene.breaker.remaining_pause() == pytest.approx(pause)
