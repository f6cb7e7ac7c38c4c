"""Hostile files, names and servers against the real commands; docs/security.md says which test answers what."""

from __future__ import annotations

import gzip
import http.server
import io
import os
import ssl
import stat
import threading
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from openpyxl import load_workbook

from etl.sandbox import Fault
from tests.support.shop import SECRET, STOCK, STOCK_MAPPING, Shop, stock

#: Turns a terminal's colours, title, cursor and direction; 8-bit controls; a bell; what overwrites a line.
EVIL = "\x1b[31mred\x1b]0,title\x07\x9b2J\u202egnp.exe\r"


def harmless(*texts: str) -> None:
    """Nothing in the texts acts on a terminal."""
    for text in texts:
        found = [sign for sign in text if not sign.isprintable() and sign not in "\n\t "]
        assert not found, [hex(ord(sign)) for sign in found]


def test_cells_columns_and_sentences_cannot_act_on_a_terminal(shop: Shop) -> None:
    """Escape sequences in cells, in the header and in Norce's answers are shown as signs that do nothing."""
    shop.mapping(STOCK_MAPPING.replace("Art: {type: text, required: true}", "Art: {type: text, pattern: '^A.*'}"))
    shop.sandbox.inject(Fault(kind="refuse", keys=("A2",), message=f"no {EVIL}", times=1))
    evil = EVIL.replace("\r", "")
    shop.drop(f"Art;Qty;Days;{evil}\nA1{evil};5;3;x\nA2;5;3;x\nB{evil};1;1;x\nA4;{evil};1;x\n")
    preview = shop.etl("preview", str(shop.inbox / "stock.csv"))
    done = shop.etl("once")
    assert done.status == 5
    (run,) = [run["run"] for run in shop.etl("status", "--json").json["runs"]]
    shown = shop.etl("show", run)
    assert "]0,title\ufffd" in shown.out
    as_json = shop.etl("show", run, "--json")
    assert any("\x1b[31m" in value for group in as_json.json["rejections"] for value in group["values"])
    for each in (preview, done, shown, as_json, shop.etl("status"), shop.etl("check")):
        harmless(each.out, each.err)


def test_names_cannot_act_on_a_terminal_or_leave_the_folder(shop: Shop) -> None:
    """Names with control signs, not in UTF-8, or too long are left in the inbox, said once, and stop nobody else."""
    box = os.fsencode(shop.inbox)
    names = [f"stock{EVIL}.csv".encode(), b"stock\xff\xfe.csv", b"stock\nx.csv", b"stock" + b"y" * 240 + b".csv"]
    for name in names:
        Path(os.fsdecode(box + b"/" + name)).write_text(stock(("B1", "5")))
    deep = shop.inbox / "/".join(["stock" + "d" * 190] * 6)
    deep.mkdir(parents=True)
    (deep / "stock.csv").write_text(stock(("B1", "5")))
    shop.drop(stock(("A1", "5")), "stock..;$(touch x)`id` 'q\" é.csv")
    done = shop.once()
    assert (done.status, done.run["records_sent"]) == (0, 1)
    harmless(done.err, shop.etl("status").out, shop.etl("show", done.run["run"]).out)
    assert (done.err.count("file_unclaimed"), done.err.count("folder_skipped")) == (len(names), 1)
    assert sorted(os.listdir(box)) == sorted([*names, b"stock" + b"d" * 190])
    assert not (shop.root / "x").exists()


def test_names_that_differ_in_case_or_form_stay_apart(shop: Shop) -> None:
    """Composed and decomposed letters, upper and lower case: each file has its own run and its own place."""
    shop.mapping(STOCK_MAPPING.replace('"stock*.csv"', '["stock*.csv", "STOCK*.csv"]').replace(": full", ": changes"))
    names = ["stock_å.csv", unicodedata.normalize("NFD", "stock_å.csv"), "STOCK_Å.csv"]
    for number, name in enumerate(names):
        shop.drop(stock((f"A{number}", "5")), name)
    done = shop.once()
    assert done.status == 0
    assert {run["file"] for run in done.json["runs"]} == set(names)
    for run in done.json["runs"]:
        assert (shop.archive(run["run"]) / "source" / run["file"]).read_text().startswith("Art;")
    assert len(shop.sandbox.records(STOCK)) == 3


def test_links_pipes_and_sockets_are_not_opened(shop: Shop, tmp_path: Path) -> None:
    """Nothing in the inbox but regular files is read, also where a done file or a manifest is looked for."""
    outside = tmp_path / "secret.csv"
    outside.write_text(stock(("SECRET", "5")))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "stock.csv").write_text(stock(("SECRET", "5")))
    (shop.inbox / "stock_link.csv").symlink_to(outside)
    (shop.inbox / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(shop.inbox / "stock_pipe.csv")
    text = STOCK_MAPPING.replace("content: full", 'content: full\n  manifest: "{name}.md5"')
    shop.mapping(text)
    shop.drop(stock(("A1", "5")))
    os.mkfifo(shop.inbox / "stock.csv.md5")
    done = shop.etl("once")
    assert "no manifest lists it yet" in done.err
    (shop.inbox / "stock.csv.md5").unlink()
    (shop.inbox / "stock.csv.md5").symlink_to(outside)
    assert "no manifest lists it yet" in shop.etl("once").err
    assert shop.imports() == []
    assert outside.exists()


def test_archives_cannot_escape_or_burst(shop: Shop) -> None:
    """Names of members are no paths, and what unpacks to far more than it looks is refused."""
    shop.mapping(STOCK_MAPPING.replace('"stock*.csv"', '["evil.zip/*", "bomb*", "stock*.csv"]'))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name in (
            "../../../stock.csv",
            "/etc/stock.csv",
            "..",
            "a/../..",
            "C:\\stock.csv",
            f"{EVIL}.csv",
            "x" * 300,
        ):
            packed.writestr(name, stock(("A1", "5")))
    shop.drop(stream.getvalue(), "evil.zip")
    shop.drop(gzip.compress(b"Art;Qty;Days\n" + b"A1;5;3\n" * 12_000_000), "bomb.csv.gz")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("stock.csv", b"0" * 100_000_000)
    shop.drop(stream.getvalue(), "bomb.zip")
    before = {path for path in shop.root.parent.rglob("*") if shop.state not in path.parents}
    done = shop.etl("once")
    harmless(done.out, done.err)
    runs = shop.etl("status", "--json").json["runs"]
    states = {run["file"].partition("/")[0]: run["state"] for run in runs if run["file"].startswith("bomb")}
    assert states == {"bomb.csv.gz": "invalid", "bomb.zip": "invalid"}
    new = {path for path in shop.root.parent.rglob("*") if shop.state not in path.parents} - before
    assert new <= {shop.state}
    assert not Path("/etc/stock.csv").exists()


def test_formulas_and_markup_stay_text(shop: Shop) -> None:
    """A cell that a spreadsheet would run is defused in what we write; markup is data; Norce gets cells as they are."""
    cells = ["=cmd|' /C calc'!A1", "+1+1", "-1+1", "@SUM(1)", "<script>alert(1)</script>", "\t=1"]
    mapping = STOCK_MAPPING.replace("Art: {type: text, required: true}", "Art: {type: text, pattern: '^A.*'}")
    shop.mapping(mapping)
    rows = "".join(f'"{cell}";5;3\n' for cell in cells)
    shop.drop("Art;Qty;Days\nA1;5;3\n" + "A<b>2</b>;5;3\n" + "".join(f"A9{n};5;3\n" for n in range(40)) + rows)
    done = shop.once()
    assert {key.split("|")[0] for key in shop.sandbox.records(STOCK)} >= {"A<b>2</b>"} or done.status == 6
    run = shop.etl("status", "--json").json["runs"][0]["run"]
    if done.status == 6:
        shop.etl("approve", run)
    for line in shop.rejections(run):
        assert not line["value"].lstrip().startswith(("=", "+", "-", "@"))
    for found in shop.archive(run).rglob("*.xlsx"):
        for row in load_workbook(found).active.iter_rows():
            assert all(cell.data_type != "f" for cell in row)


@pytest.mark.parametrize(
    "name", ["undo", "report.json", "report.html", "rejections.csv", "source", "companions", "plan.json"]
)
def test_no_name_of_an_export_meets_one_of_ours(shop: Shop, name: str) -> None:
    """An export that is called like a file of the archive is archived beside it, and can be processed again."""
    shop.mapping(STOCK_MAPPING.replace('"stock*.csv"', '"*"'))
    text = "Art;Qty;Days\nA1;5;3\nA2;many;3\n"
    shop.drop(text, name)
    done = shop.once()
    assert (done.status, done.run["state"], done.run["rejected"]) == (4, "completed", 1)
    folder = shop.archive(done.run["run"])
    assert (folder / "source" / name).read_text() == text
    assert (folder / "report.json").read_bytes().startswith(b"{")
    assert [line["code"] for line in shop.rejections(done.run["run"])] == ["type"]
    assert shop.etl("rerun", done.run["run"]).status == 4
    shop.drop(stock(("A2", "7")), "next")
    assert shop.once().run["state"] == "completed"
    assert shop.etl("state", "verify").status == 0


def test_a_cell_of_a_mebibyte_is_a_rejected_row(shop: Shop) -> None:
    """One huge cell neither stops the file nor fills report and screen."""
    shop.drop("Art;Qty;Days\n" + "".join(f"A{n};5;3\n" for n in range(60)) + f"A99;{'9' * (1 << 20)};3\n")
    done = shop.once()
    assert (done.status, done.run["rejected"], done.run["new"]) == (4, 1, 60)
    assert len(done.out) + len(done.err) + len(shop.etl("show", done.run["run"]).out) < 20_000
    assert (shop.archive(done.run["run"]) / "report.json").stat().st_size < 20_000


def test_everything_we_write_is_ours_alone(shop: Shop) -> None:
    """Whatever the umask and the file's own permissions: folders 0700, files 0600, over the whole state."""
    before = os.umask(0)
    try:
        shop.drop(stock(("A1", "5"), ("A2", "x"))).chmod(0o666)
        assert shop.once().status == 4
        shop.drop("Art;Qty;Days\n" + "".join(f"B{n};{'x' if n % 2 else n};1\n" for n in range(40))).chmod(0o644)
        assert shop.once().status == 6
        assert shop.etl("state", "export", "all.zip").status == 0
    finally:
        os.umask(before)
    paths = [shop.state, *shop.state.rglob("*"), shop.root / "all.zip"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}
    assert shop.etl("state", "verify").status == 0


def test_a_secret_that_others_may_read_is_said(shop: Shop) -> None:
    """A file with the secret and permissions for others: a line in the log, without the secret."""
    file = shop.root.parent / "secret"
    file.write_text(SECRET)
    for mode, said in ((0o644, True), (0o600, False)):
        file.chmod(mode)
        done = shop.etl("once", secret=None, ETL_CLIENT_SECRET_FILE=str(file))
        assert (done.status, "secret_exposed" in done.err) == (0, said)


def test_the_log_holds_no_cells(shop: Shop) -> None:
    """Names, addresses and quantities of records are in no line of the log, also not when Norce refuses them."""
    shop.sandbox.inject(Fault(kind="refuse", keys=("person-4711",), message="person-4711 lives at Storgatan", times=1))
    shop.drop(stock(("person-4711", "5"), ("other-0815", "quantity-secret")))
    done = shop.etl("--verbose", "once")
    assert done.status == 5
    for word in ("person-4711", "other-0815", "quantity-secret", "Storgatan"):
        assert word not in done.err


def test_a_hard_link_is_no_way_to_change_what_was_taken(shop: Shop, tmp_path: Path) -> None:
    """A file with a second name outside is taken as it is; what is written there later is not processed again."""
    other = tmp_path / "other-name.csv"
    other.write_text(stock(("A1", "5")))
    os.link(other, shop.inbox / "stock.csv")
    done = shop.once()
    assert (done.status, done.run["new"]) == (0, 1)
    other.chmod(0o600)
    other.write_text(stock(("A1", "999999")))
    again = shop.etl("rerun", done.run["run"])
    assert (again.status, "error[archive-changed]" in again.err) == (1, True)
    assert [float(record["OnhandValue"]) for record in shop.sandbox.records(STOCK).values()] == [5.0]


class _Server(http.server.BaseHTTPRequestHandler):
    """Notes what it is asked, and sends everybody elsewhere."""

    seen: list[tuple[str, dict[str, str], bytes]]
    to: str

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.seen.append((self.path, dict(self.headers), self.rfile.read(length)))
        self.send_response(307)
        self.send_header("Location", self.to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def fake(
    to: str = "", certificate: Path | None = None
) -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A server that is not Connect."""
    handler = type("Handler", (_Server,), {"seen": [], "to": to})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_port}", handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_redirects_are_not_followed_with_secrets(shop: Shop) -> None:
    """Whoever answers with another address gets nothing sent there: neither the secret, nor a token, nor records."""
    with fake() as (elsewhere, stolen), fake(to=elsewhere + "/steal") as (url, seen):
        shop.settings(url=url)
        shop.drop(stock(("A1", "5")))
        done = shop.etl("once")
        assert (done.status, "error[connect-moved]" in done.err) == (5, True)
        assert len(seen) >= 1
        assert stolen == []


def test_an_unknown_certificate_gets_nothing(shop: Shop) -> None:
    """A server that cannot prove to be Connect is refused before anything is sent, and no setting changes that."""
    with fake(certificate=Path(__file__).with_name("self-signed.pem")) as (url, seen):
        shop.settings(url=url)
        shop.drop(stock(("A1", "5")))
        done = shop.etl("once")
        assert (done.status, "error[connect-certificate]" in done.err) == (5, True)
        assert seen == []
    for word in ("verify", "insecure", "tls_verify", "verify_tls"):
        text = (shop.root / "etl.toml").read_text().replace("[connect]", f"[connect]\n{word} = false")
        (shop.root / "other.toml").write_text(text)
        assert shop.etl("--config", "other.toml", "status").err.startswith("error[settings-unknown-key]")


def test_plain_http_is_for_this_machine_only(shop: Shop) -> None:
    """The secret does not leave this machine unencrypted."""
    shop.settings(url="http://norce.example")
    assert shop.etl("once").err.startswith("error[settings-url-plain]")
