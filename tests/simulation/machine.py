"""Anything that can happen to a customer's folder, in any order, and the promises held against it after each step."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etl.cli.approval import approve, discard
from etl.config.settings import load_settings
from etl.errors import ExitStatus, StateError
from etl.model.runs import PROCESSED_STATES, ChunkState, Run, RunState
from etl.sandbox import Fault
from etl.sandbox.faults import HttpFaultKind, JobFaultKind
from etl.state.ledger.facade import Ledger
from tests.simulation.simulator import GONE, LONGEST_LIFE, OPERATION, Dropped, World, plain
from tests.support.fake_clock import telling

PARTS = [f"P{number}" for number in range(6)]
VALUES = st.one_of(st.integers(1, 6).map(str), st.none())
FILES = st.dictionaries(st.sampled_from(PARTS), VALUES, min_size=1, max_size=6)
FEEDS = st.sampled_from(sorted(OPERATION))
PATHS = st.sampled_from(["/Import", "Onhands", "PriceLists", "Job/Get", "Job/GetLog", "Job/List", "connect/token", ""])


#: Seconds in which Job/Get may not know a new job: less than a tenth of the simulator's `lost_answer_seconds`.
UNKNOWN_SECONDS = 2.0

#: Values of types that the documentation does not give to a field; none of them is a lie that could be believed.
ODD_VALUES: list[object] = ["x", [], {}, [[]], {"a": {}}, 2**70, 1.5, "\ud83d", "", None]
ODD_FIELDS: dict[str, list[object]] = {
    "JobId": ODD_VALUES,
    "StatusId": ODD_VALUES,
    "IsFinished": [value for value in ODD_VALUES if value != 2**70] + [1, 0],
    "Totals": ODD_VALUES,
    "Fail": ODD_VALUES,
    "Start": [2**70, 1.5, [], {}, True, "yesterday", "\ud83d"],
    "SeverityId": ODD_VALUES,
    "Message": [2**70, [], {}, True],
    "ImportedRow": [2**70, [], {}, True],
    "ValidationSummary": ["x", 2**70, [], True],
    "Messages": ["All is well", 5, {}],
    "access_token": [5, [], {}, None, "\ud83d"],
    "expires_in": ["x", [], None, 2**70],
}


@st.composite
def odd_answers(draw: st.DrawFn) -> Fault:
    """An answer with values of other types than the documentation says."""
    kind: HttpFaultKind = draw(st.sampled_from(["odd", "odd", "odd_entry"]))
    fields = draw(st.lists(st.sampled_from(sorted(ODD_FIELDS)), min_size=1, max_size=3, unique=True))
    values = {name: draw(st.sampled_from(ODD_FIELDS[name])) for name in fields}
    path = "Job/List" if kind == "odd_entry" else draw(PATHS)
    return Fault(kind=kind, path=path, times=draw(st.integers(1, 4)), after=draw(st.integers(0, 2)), values=values)


@st.composite
def troubles(draw: st.DrawFn) -> Fault:
    """Everything that the sandbox can do to a client."""
    kind = draw(st.sampled_from(["answer", "answer", "odd", "job", "record"]))
    times = draw(st.integers(1, 3))
    if kind == "odd":
        return draw(odd_answers())
    if kind == "job":
        job: JobFaultKind = draw(
            st.sampled_from(
                ["job_failed", "job_stuck", "job_slow", "job_unknown", "empty_log", "no_finish", "shuffled_log"]
            )
        )
        # A job that is unknown for ever is a lie about a job that runs: nobody can keep the order then.
        return Fault(kind=job, times=times, delay=UNKNOWN_SECONDS if job == "job_unknown" else 7200.0)
    if kind == "record":
        keys = tuple(draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=2)))
        what: JobFaultKind = draw(st.sampled_from(["refuse", "warn", "invalid"]))
        return Fault(kind=what, keys=keys, times=times, name_row=draw(st.booleans()), message="no")
    answer: HttpFaultKind = draw(
        st.sampled_from(
            ["rate_limit", "unauthorized", "status", "status", "status", "too_large", "reset_before", "reset_after",
             "slow", "hang", "html", "truncated"]
        )
    )  # fmt: skip
    lasting = draw(st.sampled_from([None, None, None, 300.0]))
    status = draw(st.sampled_from([400, 403, 404, 408, 500, 502, 503]))
    path = draw(PATHS)
    if status == 404 and path in "Job/Get":  # a lie about a job that runs, too
        path = "/Import"
    return Fault(
        kind=answer,
        path=path,
        times=None if lasting else times,
        seconds=lasting,
        after=draw(st.integers(0, 2)),
        status=status,
        retry_after=draw(st.sampled_from([None, 7.0, 90.0])),
        retry_after_date=draw(st.booleans()),
        delay=90.0,
        accept=status >= 500 and draw(st.booleans()),  # who refuses a request has not taken it
        above=1,
    )


class Days(RuleBasedStateMachine):
    """A customer's days."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="etl-states-", dir=_memory(), ignore_cleanup_errors=True)
        self.world = World(Path(self.folder.name) / "shop")
        self.uploads: list[Dropped] = []
        self.looked = 0  #: requests held against P5 already
        self.lives = -1  #: at whose end the ledger was held against the promises

    @initialize(validation=st.sampled_from(["request", "item"]), imported_row=st.sampled_from(["null", "cut", "full"]))
    def begin(self, validation: str, imported_row: str) -> None:
        """How this Connect reads what the documentation leaves open."""
        settings = self.world.sandbox.settings
        object.__setattr__(settings, "validation", validation)
        object.__setattr__(settings, "imported_row", imported_row)

    def teardown(self) -> None:
        try:
            if self.world.dropped or self.world.growing:
                self.agree()
        finally:
            self.folder.cleanup()

    # -- what happens -----------------------------------------------------------------------------------------------

    @rule(feed=FEEDS, says=FILES, upload=st.sampled_from(["whole", "whole", "growing"]))
    def drop(self, feed: str, says: dict[str, str | None], upload: str) -> None:
        """A file comes, at once or piece by piece."""
        self.world.drop(self.world.file(feed, says), upload=upload)

    @rule(feed=FEEDS, files=st.lists(FILES, min_size=2, max_size=4))
    def drop_several_at_once(self, feed: str, files: list[dict[str, str | None]]) -> None:
        """Files of one feed, one right behind the other: of whole ones the last counts, changes go together."""
        for says in files:
            self.world.drop(self.world.file(feed, says))

    @rule(files=st.lists(FILES, min_size=1, max_size=2))
    def drop_changes_before_a_bad_file(self, files: list[dict[str, str | None]]) -> None:
        """Files of changes, and behind them one that nobody can read."""
        for says in files:
            self.world.drop(self.world.file("prices", says))
        self.world.drop(replace(self.world.file("prices", {}), text="nothing\nof it\n"))

    @precondition(lambda self: any(file.says for file in self.world.dropped[-4:]))
    @rule(data=st.data())
    def drop_again(self, data: st.DataObject) -> None:
        """An earlier file comes again: the same twice, or A, B, A."""
        old = data.draw(st.sampled_from([file for file in self.world.dropped[-4:] if file.says]))
        self.world.drop(self.world.file(old.feed, old.says))

    @rule(feed=FEEDS, says=FILES)
    def begin_upload(self, feed: str, says: dict[str, str | None]) -> None:
        """A part of a file, under the name of an upload."""
        file = self.world.file(feed, says)
        (self.world.inbox / f"{file.name}.part").write_text(file.text[:5], encoding="utf-8")
        self.uploads.append(file)

    @precondition(lambda self: self.uploads)
    @rule()
    def finish_upload(self) -> None:
        """The rest of it, and its name: files are renamed into being."""
        file = self.uploads.pop(0)
        part = self.world.inbox / f"{file.name}.part"
        part.rename(self.world.inbox / file.name)
        self.world.drop(file)

    @rule()
    def edit_mapping(self) -> None:
        """Somebody changes a value in a mapping."""
        self.world.edit()

    @rule(fault=troubles())
    def trouble(self, fault: Fault) -> None:
        """Connect is about to have a bad moment."""
        self.world.sandbox.inject(fault)

    @rule(hours=st.sampled_from([-7200.0, -60.0, 90.0, 7200.0]))
    def clock_jump(self, hours: float) -> None:
        """The wall clock is set."""
        self.world.step(hours)

    @rule(seconds=st.sampled_from([10.0, 3600.0, 40_000.0]))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens for a while."""
        self.world.clock.advance(seconds)

    @rule()
    def work(self) -> None:
        """A life to its end."""
        assert self.world.live() is not None

    @rule(at=st.integers(1, 150))
    def work_and_die(self, at: int) -> None:
        """A life that ends at an effect."""
        self.world.live(blow_at=at)

    @rule(seconds=st.sampled_from([2.5, 4.0, 30.0, 600.0]))
    def work_and_stop(self, seconds: float) -> None:
        """A life that is stopped."""
        self.world.live(stop_after=seconds)

    @rule()
    def second_process(self) -> None:
        """Another process finds the folder in use, says by whom, and touches nothing."""
        self.world.grow()
        with self.world.in_use():
            before, asked = self.world.places(), len(self.world.asked)
            assert self.world.live() is ExitStatus.CANNOT_CONTINUE, self.world.said
            assert "state-in-use" in self.world.said
            assert "process 4711" in self.world.said
            assert (self.world.places(), len(self.world.asked)) == (before, asked)

    @rule()
    def work_twice(self) -> None:
        """P7: two lives over equal folders ask for the same, byte for byte; while Connect is well."""
        if self.world.sandbox.faults.all():  # no precondition: threads take turns in using faults up
            return
        self.world.grow()
        twin = self.world.twin()
        try:
            before = len(self.world.asked)
            if twin.live() is ExitStatus.OK:
                self.world.live()
                mine, other = (
                    sorted((one.path, one.digest) for one in asked if one.keys)
                    for asked in (self.world.asked[before:], twin.asked)
                )
                assert mine == other
        finally:
            shutil.rmtree(twin.root)

    # -- what holds -------------------------------------------------------------------------------------------------

    @invariant()
    def promises(self) -> None:
        """All of them; P4 and P7 are rules, and `agree`."""
        self.every_file_is_in_one_place()
        self.every_request_is_sound()
        self.unknown_outcomes_are_resolved_first()
        self.the_limit_is_kept()
        self.newer_values_stay()
        self.no_key_is_in_two_unfinished_jobs()
        if self.lives == self.world.lives:  # the ledger changes by lives only, and what jobs take is added to
            return
        self.lives = self.world.lives
        if (self.world.state / "ledger.sqlite").exists():
            with self.world.ledger() as ledger:
                known = {feed: self.world.accepted(ledger, feed) for feed in OPERATION}
                self.every_row_ends_somewhere(ledger, known)
                self.accepted_is_what_jobs_have_taken(known)

    def every_row_ends_somewhere(self, ledger: Ledger, accepted: dict[str, dict[str, str]]) -> None:
        """P1: what the newest worked file of a feed says, of changes all of them, is accepted or known not to be."""
        for feed in OPERATION:
            runs = ledger.runs.list_recent(1000, feed)
            for run in runs:
                if run.state in PROCESSED_STATES:
                    counts = run.counts
                    ended = counts.rejected + counts.skipped + counts.unchanged + counts.new + counts.changed
                    assert ended + counts.blocked >= counts.rows, (run.id, counts)
            newest = next((run for run in runs if run.state is RunState.COMPLETED), None)
            if newest is None or any(not run.state.is_final for run in runs) or ledger.runs.list_awaiting_merge(feed):
                continue
            refused = {refusal.key.split("\x1f")[0] for refusal in ledger.record_errors.list_by_run(newest.id)}
            failed = any(chunk.state is ChunkState.FAILED for chunk in ledger.chunks.list_by_run(newest.id))
            known = accepted[feed]
            for part, value in self._says(
                feed, [run for run in runs if run.state in PROCESSED_STATES and run.has_file]
            ).items():
                assert known.get(part) == value or part in refused or failed, (newest.id, part)

    def _says(self, feed: str, runs: list[Run]) -> dict[str, str]:
        """The good values of the newest of these runs, or of all of them, by the time of their files."""
        files = {(run.file, self.world.archived(run)) for run in (runs if feed == "prices" else runs[:1])}
        said = [file.says for file in self.world.dropped if (file.name, file.text) in files]
        return {part: plain(value) for says in said for part, value in says.items() if value is not None}

    def every_file_is_in_one_place(self) -> None:
        """P2: each file that was ever dropped is there, once."""
        growing = {file.name for file in self.world.growing}
        there = {key: count for key, count in self.world.places().items() if key[0] not in growing}
        dropped = {(file.name, file.text): 1 for file in self.world.dropped}
        assert there == dropped, f"{there.items() ^ dropped.items()}"

    def every_request_is_sound(self) -> None:
        """A second reading of the contract has nothing against a request."""
        assert self.world.wrong == []

    def accepted_is_what_jobs_have_taken(self, accepted: dict[str, dict[str, str]]) -> None:
        """P3: nothing counts as accepted that no ended job has brought."""
        for feed in OPERATION:
            taken = self.world.taken(feed)
            for part, value in accepted[feed].items():
                assert value in taken[part], f"{feed} {part}: {value} is accepted, and no job has taken it"

    def unknown_outcomes_are_resolved_first(self) -> None:
        """P5: after a request whose outcome is unknown, jobs are looked for before its keys are sent again."""
        asked = self.world.asked
        for number in range(self.looked, len(asked)):
            if not asked[number].keys or asked[number].known:
                continue
            for at, later in enumerate(asked[number + 1 :], number + 1):
                if later.path.endswith("Job/List"):
                    break
                assert not later.keys & asked[number].keys, "sent while in doubt: " + "; ".join(map(str, asked[number : at + 1]))  # fmt: skip # noqa: E501
        self.looked = max(0, len(asked) - 100)

    def the_limit_is_kept(self) -> None:
        """P6: at most 60 requests in any 60 seconds of Connect's clock, and so never a 429 that nobody injected."""
        assert self.world.sandbox.max_requests_in_window(60) <= 60
        assert not [seen for seen in self.world.sandbox.requests() if seen.status == 429 and seen.fault is None]

    def newer_values_stay(self) -> None:
        """P8: what jobs bring of a part comes in the order in which files said it."""
        for feed in OPERATION:
            taken = self.world.taken(feed)
            for part, values in taken.items():
                said = [self._of(file, part) for file in self.world.dropped if file.feed == feed]
                at = 0
                for value in values:
                    at = next((n for n in range(at, len(said)) if said[n] == value), -1)
                    assert at >= 0, f"{feed} {part}: {values} is not in the order of {said}"

    @staticmethod
    def _of(file: Dropped, part: str) -> str | None:
        if part in file.says:
            value = file.says[part]
            return None if value is None else plain(value)
        return GONE if file.feed == "stock" else None

    def no_key_is_in_two_unfinished_jobs(self) -> None:
        """Connect promises no order between jobs."""
        jobs = sorted(self.world.sandbox._jobs.values(), key=lambda job: job.submitted_at)
        for number, one in enumerate(jobs):
            end = self.world.clock.server() if one.final_status is None else one.finish_at
            for other in jobs[number + 1 :]:
                if other.submitted_at >= end:
                    break
                if (
                    one.operation_id == other.operation_id and one.items != other.items
                ):  # the same once more harms nobody
                    keys = [{item["PartNo"] for item in job.items} for job in (one, other)]
                    told = [(job.id, job.items, job.submitted_at, job.finish_at, job.final_status) for job in jobs]
                    assert not keys[0] & keys[1], f"{keys[0] & keys[1]} in jobs {one.id} and {other.id} at once: {told}"

    # -- where it ends ----------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """P4: when Connect is itself again, everything comes to its end, and Connect agrees with the newest files."""
        self.world.unstick()
        for upload in range(len(self.uploads)):
            self.finish_upload()
            assert upload >= 0
        self._quiet()
        newest = next((file for file in reversed(self.world.dropped) if file.feed == "stock"), None)
        for file in [newest, self.world.file("prices", {"P9": "1"})]:
            if file is not None:
                self.world.drop(self.world.file(file.feed, file.says))
        self._quiet()
        self.promises()
        with self.world.ledger() as ledger:
            stored = {feed: self.world.stored(feed) for feed in OPERATION}
            known = {feed: self.world.accepted(ledger, feed) for feed in OPERATION}
            assert ledger.runs.list_open() == ()
            assert [run for feed in OPERATION for run in ledger.runs.list_awaiting_merge(feed)] == []
        note(f"stored {stored}, accepted {known}")
        if newest is not None:
            for part, held in stored["stock"].items():
                wanted = self._of(newest, part)
                assert wanted is None or held == wanted, f"stock {part} is {held}, should be {wanted}"
        for part in PARTS:
            said = [self._of(file, part) for file in self.world.dropped if file.feed == "prices"]
            wanted = next((value for value in reversed(said) if value is not None), None)
            assert stored["prices"].get(part) == wanted, f"price {part} is {stored['prices'].get(part)}, not {wanted}"
        left = [path.name for path in self.world.inbox.iterdir()]
        assert not left

    def _quiet(self) -> None:
        for _ in range(4):
            self.world.live(patience=LONGEST_LIFE)
            self._decide()
            with self.world.ledger() as ledger:
                if not ledger.runs.list_open() and not list(self.world.inbox.iterdir()):
                    return
        raise AssertionError(f"does not come to an end: {self.world.said}")

    def _decide(self) -> None:
        """A person discards what a guard holds, and lets requests be sent again whose jobs must have ended by now."""
        with self.world.ledger() as ledger:
            held = [run for run in ledger.runs.list_recent(1000) if run.state is RunState.HELD]
        self.world.lives += len(held)
        for run in held:
            settings = load_settings(self.world.root / "etl.toml")
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
                self.world.wired(),
                telling(self.world.clock),
            ):
                try:
                    if run.has_unknown_outcome:
                        self.world.clock.advance(LONGEST_JOB)
                        approve(settings, run.id, send_again=True)
                    else:
                        discard(settings, run.id)
                except StateError as error:
                    raise AssertionError(str(error)) from error


#: Seconds after which every job has ended, also the slow ones.
LONGEST_JOB = 86_400.0


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
