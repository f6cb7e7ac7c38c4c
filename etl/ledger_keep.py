"""What the ledger keeps besides runs: whose folder it is, access tokens, limits learnt, what is not part of a base
yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, delete, insert, or_, select, update

from etl import ledger_rows, schema
from etl.errors import StateError
from etl.model import Run, RunState


class Keep:
    """Base of the ledger; knows its database and its state folder."""

    def __init__(self, database: schema.Database, state: Path) -> None:
        self.database = database
        self.state = state

    @classmethod
    def read(cls, state: Path) -> Self:
        """The ledger of a state folder for looking only, also while somebody works on it. Raises StateError."""
        return cls(schema.read_database(state), state.absolute())

    def token(self, name: str) -> tuple[str, float, float] | None:
        """A kept access token with the times it was obtained and ends (epoch seconds)."""
        t = schema.tokens.c
        with self.database.read() as db:
            row = db.execute(select(t.value, t.obtained, t.expires).where(t.name == name)).first()
        return (row.value, row.obtained, row.expires) if row else None

    def keep_token(self, name: str, value: str, obtained: float, expires: float) -> None:
        """Share an access token with the other processes of this folder."""
        with self.database.write() as db:
            db.execute(delete(schema.tokens).where(schema.tokens.c.name == name))
            db.execute(insert(schema.tokens).values(name=name, value=value, obtained=obtained, expires=expires))

    def size_limit(self, operation: str) -> int | None:
        """Largest body in bytes worth trying, learnt from 413 answers; None when none was seen."""
        with self.database.read() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == f"limit:{operation}")).first()
        return int(found.value) if found else None

    def learn_size_limit(self, operation: str, size: int) -> None:
        """A body of this many bytes was too large; the smallest such size counts."""
        key = f"limit:{operation}"
        with self.database.write() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).first()
            if found is None:
                db.execute(insert(schema.meta).values(key=key, value=str(size - 1)))
            elif size - 1 < int(found.value):
                db.execute(update(schema.meta).where(schema.meta.c.key == key).values(value=str(size - 1)))

    def moves(self, feed: str) -> int:
        """How often *accepted* of a feed has moved; a plan that was made at another count is outdated."""
        with self.database.read() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == f"moves:{feed}")).first()
        return int(found.value) if found else 0

    @staticmethod
    def _moved(db: Connection, run: str) -> None:
        """In the transaction in which *accepted* of the run's feed moves."""
        feed = db.execute(select(schema.runs.c.feed).where(schema.runs.c.id == run)).scalar_one()
        key = f"moves:{feed}"
        found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == key)).first()
        if found is None:
            db.execute(insert(schema.meta).values(key=key, value="1"))
        else:
            db.execute(update(schema.meta).where(schema.meta.c.key == key).values(value=str(int(found.value) + 1)))

    def keep_digests(self, digests: Mapping[Path, str]) -> None:
        """What files of the folder hold, as SHA-256."""
        rows = [{"path": ledger_rows.kept(path, self.state), "digest": digest} for path, digest in digests.items()]
        if rows:
            with self.database.write() as db:
                db.execute(delete(schema.files).where(schema.files.c.path.in_([row["path"] for row in rows])))
                db.execute(insert(schema.files), rows)

    def digest_of(self, path: Path) -> str | None:
        """What a file was noted to hold; None when it was not."""
        f = schema.files.c
        with self.database.read() as db:
            query = select(f.digest).where(f.path == ledger_rows.kept(path, self.state))
            return db.execute(query).scalar_one_or_none()

    def forget_digests(self, needed: Collection[Path]) -> None:
        """Of files that are gone and not needed; only when nothing is being worked."""
        with self.database.write() as db:
            kept = db.execute(select(schema.files.c.path)).scalars().all()
            wanted = {ledger_rows.kept(path, self.state) for path in needed}
            gone = [path for path in kept if path not in wanted and not (self.state / path).exists()]
            for start in range(0, len(gone), 500):
                db.execute(delete(schema.files).where(schema.files.c.path.in_(gone[start : start + 500])))

    def unmerged(self, feed: str) -> tuple[tuple[str, RunState], ...]:
        """The feed's runs that are not part of its base, in the order they were opened."""
        r = schema.runs.c
        query = select(r.id, r.state).where(r.feed == feed, r.merged == 0).order_by(r.seq)
        with self.database.read() as db:
            return tuple((row.id, RunState(row.state)) for row in db.execute(query))

    def was_taken(self, file: str, since: float) -> bool:
        """Whether a run of a file of this name was opened at that time (epoch seconds) or later."""
        r = schema.runs.c
        moment = datetime.fromtimestamp(since, UTC).isoformat()
        query = select(r.id).where(
            r.started >= moment, or_(r.file == file, r.file.startswith(f"{file}/", autoescape=True))
        )
        with self.database.read() as db:
            return db.execute(query.limit(1)).first() is not None

    def target(self) -> str | None:
        """The catalogue that the folder is bound to."""
        with self.database.read() as db:
            return db.execute(select(schema.meta.c.value).where(schema.meta.c.key == "target")).scalar_one_or_none()

    def shares_file(self, run: Run) -> bool:
        """Whether another run that has not ended needs the claimed file of this one."""
        r = schema.runs.c
        ended = [state.value for state in RunState if state.is_final]
        query = select(r.id).where(
            r.claimed == ledger_rows.kept(run.claimed, self.state), r.id != run.id, r.state.not_in(ended)
        )
        with self.database.read() as db:
            return db.execute(query.limit(1)).first() is not None

    def tie(self, target: str) -> None:
        """Bind the folder to one catalogue. Raises StateError when it belongs to another."""
        with self.database.read() as db:
            found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == "target")).first()
        if found is None:
            with self.database.write() as db:
                found = db.execute(select(schema.meta.c.value).where(schema.meta.c.key == "target")).first()
                if found is None:
                    db.execute(insert(schema.meta).values(key="target", value=target))
                    return
        if found.value != target:
            raise StateError(
                "state-other-target",
                f"this state folder belongs to {found.value}, the settings name {target}",
                where=str(self.state),
                hint="give each catalogue its own paths.state",
            )
