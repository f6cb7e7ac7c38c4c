"""The `etl` command: parses, wires, prints, exits. The one place where an error becomes text and a status.

Everything heavy is imported inside the commands: `etl --help`, `status` and `show` have to be quick.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click

from etl import __version__, filesystem, terminal
from etl.errors import EtlError, ExitStatus

P = ParamSpec("P")


class CommandGroup(click.Group):
    """Commands in the order of their use, and errors as sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def handle_errors(command: Callable[P, ExitStatus | None]) -> Callable[P, NoReturn]:
    """Turn exceptions into messages: a command returns its exit status or raises."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> NoReturn:
        try:
            status = command(*args, **kwargs)
        except EtlError as error:
            click.echo(str(error), err=True)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(ExitStatus.INTERRUPTED)
        except BrokenPipeError:
            sys.exit(ExitStatus.OK)
        except click.ClickException:
            raise
        except OSError as error:
            disk_error = filesystem.disk_error(error)
            click.echo(str(disk_error), err=True)
            sys.exit(disk_error.exit_status)
        except Exception as error:
            _report_internal_error(error)
        sys.exit(status or ExitStatus.OK)

    return run


def _report_internal_error(error: Exception) -> NoReturn:
    """Report an exception that no one foresaw: a message on the terminal, the traceback in a file."""
    import traceback

    from etl import defect_report

    file = defect_report.write_traceback(error)
    click.echo(
        f"error[defect]: the program has a defect ({type(error).__name__})\n"
        f"  where: {file}\n"
        "  hint:  nothing is lost; please report it with that file",
        err=True,
    )
    if "--debug" in sys.argv:
        traceback.print_exception(error)
    sys.exit(ExitStatus.INTERNAL_ERROR)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: ETL_CONFIG, or etl.toml).")
@click.option("--verbose", is_flag=True, help="Log debug events too.")
@click.option("--debug", is_flag=True, help="Show the traceback of a defect.")
@click.version_option(__version__, prog_name="etl")
@click.pass_context
def main(ctx: click.Context, config: Path | None, verbose: bool, debug: bool) -> None:
    """Update Norce Commerce from export files: drop a file into the inbox; only changed fields are sent.

    Exit status: 0 all accepted, 1 cannot continue, 2 wrong usage, 3 defect, 4 some rows rejected, 5 Connect
    unreachable, or records or requests failed, 6 run held for approval, 130 interrupted.
    """
    terminal.sanitize_streams()
    ctx.obj = {"config": config, "verbose": verbose}


def _load_settings(ctx: click.Context) -> Any:
    from etl.config import settings as config

    return config.load_settings(ctx.obj["config"])


@main.command()
@click.pass_context
@handle_errors
def run(ctx: click.Context) -> ExitStatus:
    """Watch the inbox and process files until stopped."""
    from etl.cli import run

    return run.run(_load_settings(ctx), verbose=ctx.obj["verbose"])


@main.command()
@click.option(
    "--wait",
    "patience",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Exit with status 5 when no request and no job has changed for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the runs as JSON.")
@click.pass_context
@handle_errors
def once(ctx: click.Context, patience: float, as_json: bool) -> ExitStatus:
    """Process the files in the inbox, wait for their jobs, then exit."""
    from etl.cli import run

    return run.once(_load_settings(ctx), patience=patience, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--feed", help="Feed to use when the file name fits no mapping, or several.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
@click.option("--evidence", is_flag=True, help="Show only the detected file format and the evidence for it.")
@click.pass_context
@handle_errors
def preview(ctx: click.Context, file: Path, feed: str | None, as_json: bool, evidence: bool) -> ExitStatus:
    """Show what FILE would send; nothing is sent."""
    from etl.cli import init, preview

    if evidence:
        click.echo("\n".join(init.explain_detection(file)))
        return ExitStatus.OK
    return preview.preview_file(_load_settings(ctx), file, feed, as_json=as_json)


@main.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--file", help="Instead of RUN: name of a processed file below the inbox, or the last part of it.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def rerun(ctx: click.Context, run_id: str | None, file: str | None, as_json: bool) -> ExitStatus:
    """Process the file of RUN again with the current mapping."""
    from etl.cli import rerun

    return rerun.rerun(_load_settings(ctx), run_id, file, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("feed")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def retry(ctx: click.Context, feed: str, as_json: bool) -> ExitStatus:
    """Send only those records of FEED that Norce has not accepted."""
    from etl.cli import rerun

    return rerun.retry(_load_settings(ctx), feed, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("feed")
@click.argument("keys", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def resend(ctx: click.Context, feed: str, keys: tuple[str, ...], as_json: bool) -> ExitStatus:
    """Send the records of FEED with these KEYS again, accepted or not."""
    from etl.cli import rerun

    return rerun.resend(_load_settings(ctx), feed, keys, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("feed")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def full(ctx: click.Context, feed: str, as_json: bool) -> ExitStatus:
    """Send all records of FEED again from its newest file."""
    from etl.cli import rerun

    return rerun.full(_load_settings(ctx), feed, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option(
    "--send-again", is_flag=True, help="Send the requests again whose outcome is unknown (you have checked Norce)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def approve(ctx: click.Context, run_id: str, send_again: bool, as_json: bool) -> ExitStatus:
    """Send a held RUN exactly as it was planned."""
    from etl.cli import approval

    settings, verbose = _load_settings(ctx), ctx.obj["verbose"]
    return approval.approve(settings, run_id, send_again=send_again, as_json=as_json, verbose=verbose)


@main.command()
@click.argument("job_id", metavar="JOB", type=int)
@click.pass_context
@handle_errors
def restart(ctx: click.Context, job_id: int) -> ExitStatus:
    """Restart an ended JOB in Norce.

    Fails when newer records of the same import were sent.
    """
    from etl.cli import restart

    return restart.restart_job(_load_settings(ctx), job_id, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("run_id", metavar="RUN")
@click.pass_context
@handle_errors
def discard(ctx: click.Context, run_id: str) -> ExitStatus:
    """Archive a held RUN without sending it."""
    from etl.cli import approval

    return approval.discard(_load_settings(ctx), run_id)


@main.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
@handle_errors
def fetch(ctx: click.Context, name: str | None, as_json: bool) -> ExitStatus:
    """Fetch files from servers into the inbox.

    NAME is the section [fetch.NAME] of the settings; without it, all servers are visited. The files are not processed.
    """
    from etl.cli import fetch

    names = [name] if name else []
    return fetch.fetch(_load_settings(ctx), names, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
@click.pass_context
@handle_errors
def undo(ctx: click.Context, run_id: str, as_json: bool) -> ExitStatus:
    """Plan and hold a run that restores the values from before RUN.

    `etl approve` sends it.
    """
    from etl.cli import approval

    return approval.undo(_load_settings(ctx), run_id, as_json=as_json, verbose=ctx.obj["verbose"])


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.option("--strict", is_flag=True, help="Exit 1 if any alert is active, 6 if a run is held.")
@click.pass_context
@handle_errors
def status(ctx: click.Context, as_json: bool, strict: bool) -> ExitStatus:
    """Show recent runs, open and held runs, and active alerts."""
    from etl.cli import status as status_module

    return status_module.status(_load_settings(ctx), as_json=as_json, strict=strict)


@main.command()
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@click.pass_context
@handle_errors
def show(ctx: click.Context, run_id: str, as_json: bool) -> ExitStatus:
    """Show one RUN: counts, rejected rows and failed records."""
    from etl.cli import show as screens

    return screens.show(_load_settings(ctx), run_id, as_json=as_json)


@main.command()
@click.argument("mappings", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--write", is_flag=True, help="Write expected.json for cases that have none.")
@click.pass_context
@handle_errors
def check(ctx: click.Context, mappings: tuple[Path, ...], write: bool) -> ExitStatus:
    """Check MAPPINGS against Connect's contract and run their cases.

    Without arguments, all mapping files in the mappings folder are checked.
    """
    from etl.cli import check

    return check.check_mappings(_load_settings(ctx).paths.mappings, mappings, write_expected=write)


@main.command()
@handle_errors
def schema() -> ExitStatus:
    """Print the mapping language as JSON Schema, for editors."""
    from etl.cli import schema

    return schema.print_schema()


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--operation", help="Import to map to, e.g. ImportOnhands (default: the best match for the headers).")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="New file to write (default: standard output)."
)
@handle_errors
def init(file: Path, operation: str | None, output: Path | None) -> ExitStatus:
    """Draft a mapping from FILE.

    The draft has the detected format, the columns, and the Norce fields that their headers resemble.
    """
    from etl.cli import init

    return init.init(file, operation, output)


@main.group(cls=CommandGroup)
def state() -> None:
    """Verify, export, import or repair the state folder."""


@state.command("verify")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.pass_context
@handle_errors
def state_verify(ctx: click.Context, as_json: bool) -> ExitStatus:
    """Check the ledger and the files of the state folder; print each problem with its repair command."""
    from etl.cli import state

    return state.verify_folder(_load_settings(ctx), as_json=as_json)


@state.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--feed", "feeds", multiple=True, help="Only this feed; may be repeated.")
@click.pass_context
@handle_errors
def state_export(ctx: click.Context, file: Path, feeds: tuple[str, ...]) -> ExitStatus:
    """Export accepted and pending records to a new FILE."""
    from etl.cli import state

    return state.export_to_file(_load_settings(ctx), file, feeds)


@state.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.pass_context
@handle_errors
def state_import(ctx: click.Context, file: Path) -> ExitStatus:
    """Import an exported FILE into an empty state folder."""
    from etl.cli import state

    return state.import_from_file(_load_settings(ctx), file)


@state.command("rebuild")
@click.argument("names", metavar="[FEED|RUN]...", nargs=-1)
@click.option(
    "--forget", is_flag=True, help="Delete the accepted records of the feeds; their next files are sent in full."
)
@click.option("--all", "reset", is_flag=True, help="Back up the whole state folder and start with an empty one.")
@click.option("--trust-ledger", is_flag=True, help="Accept a ledger that you have changed yourself.")
@click.pass_context
@handle_errors
def state_rebuild(
    ctx: click.Context, names: tuple[str, ...], forget: bool, reset: bool, trust_ledger: bool
) -> ExitStatus:
    """Rebuild the base snapshot of a FEED, or repair an open RUN."""
    from etl.cli import state

    return state.rebuild_state(_load_settings(ctx), names, forget=forget, reset=reset, trust_ledger=trust_ledger)


@main.command()
@click.option("--port", default=8800, show_default=True, help="Port on 127.0.0.1.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), help="Folder that keeps its catalogue.")
@click.option("--webhook", metavar="URL", help="Post a JobCompletedEvent to URL for every job that ends.")
@handle_errors
def sandbox(port: int, state: Path | None, webhook: str | None) -> ExitStatus:
    """Start a local server that behaves as Connect is documented."""
    from etl.cli import sandbox

    return sandbox.serve(port, state, webhook)


@main.command()
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Work in this folder and keep it.")
@click.pass_context
@handle_errors
def demo(ctx: click.Context, keep: Path | None) -> ExitStatus:
    """Run the demonstration: two days of exports against the sandbox."""
    from etl.cli.demo import run_demo

    return run_demo(_load_settings(ctx).paths.mappings, keep)
