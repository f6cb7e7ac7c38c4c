"""State folders that older versions of the program wrote, one for each layout of the ledger: they open for ever.

Each is the folder `var` of a shop that worked against the built-in sandbox, with the mapping `stock.yaml` of
`tests/cli` as the feed `stock`, and the same for a second warehouse (`W2`, files `shelf*.csv`) as the feed
`shelf`: two ended runs of `stock`, a third killed in the middle of sending; an ended run of `shelf` and a held one. For
a new layout the same is done with the last program of the old one.
"""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(packed: Path, into: Path) -> Path:
    """The state folder of a packed shop, unpacked below `into`."""
    with tarfile.open(packed) as archive:
        archive.extractall(into, filter="data")
    return into / "var" / "sandbox"
