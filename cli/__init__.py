"""The `defectline` command: `defectline X` is the module X in the folder of its panel in --help.

Heavy packages are imported by the commands that need them.
"""

import logging
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from defectline.cli import completion, hints
from defectline.cli.cluster import compile, doctor, schedule, submit
from defectline.cli.endpoint import inspect, qualify, review, rollback, serve, status
from defectline.cli.pipeline import config, crossval, run, sample, tune
from defectline.cli.products import EachProduct, OneProduct
from defectline.cli.store import audit, lineage, metrics, models, package, prune, report, runs, snapshots
from defectline.cli.trust import approve, keygen, reject, verify
from defectline.components.common.errors import DefectlineError

PANELS: dict[str, dict[str, Callable[..., Any] | typer.Typer]] = {
    "Pipeline": {
        "run": run.run,
        "config": config.config,
        "crossval": crossval.crossval,
        "tune": tune.tune,
        "sample": sample.sample,
    },
    "Endpoint": {
        "serve": serve.serve,
        "inspect": inspect.inspect,
        "qualify": qualify.qualify,
        "status": status.status,
        "rollback": rollback.rollback,
        "review": review.app,
    },
    "Store": {
        "models": models.models,
        "runs": runs.runs,
        "metrics": metrics.metrics,
        "report": report.report,
        "lineage": lineage.lineage,
        "audit": audit.audit,
        "snapshots": snapshots.snapshots,
        "package": package.package,
        "prune": prune.prune,
    },
    "Trust": {
        "approve": approve.approve,
        "reject": reject.reject,
        "verify": verify.verify,
        "keygen": keygen.keygen,
    },
    "Cluster": {
        "compile": compile.compile_,
        "submit": submit.submit,
        "schedule": schedule.app,
        "doctor": doctor.doctor,
    },
}
"""Every command, by its panel in --help."""
EACH_PRODUCT = ("submit",)
"""Commands that are called for each of several files of --config."""
SUBCOMMANDS = {
    name: [one.name or "" for one in command.registered_commands] if isinstance(command, typer.Typer) else []
    for commands in PANELS.values()
    for name, command in commands.items()
}
"""Of every command."""


class Commands(TyperGroup):
    """All commands, in the order of PANELS: typer would list groups before the others."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if not ctx.resilient_parsing and name not in self.commands and not name.startswith("-"):
            near = " or ".join(f"'{one}'" for one in hints.nearest(name, self.list_commands(ctx)))
            ctx.fail(f"No such command '{name}'." + (f" Did you mean {near}?" if near else ""))
        typed = hints.command_in(args, SUBCOMMANDS)
        # A group alone shows its help.
        if not ctx.resilient_parsing and "--help" not in args and (typed != name or not SUBCOMMANDS[name]):
            hints.check_installed(typed)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: object) -> list[str]:
        return [name for commands in PANELS.values() for name in commands]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    help="Labelled product images become a gated defect-segmentation endpoint.",
)
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            kind = EachProduct if name in EACH_PRODUCT else OneProduct
            app.command(name, cls=kind, rich_help_panel=panel)(command)


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="The versions that matter, and exit.")
    ] = False,
) -> None:
    if version:
        from defectline.pipeline.versions import versions

        for name, found in versions():
            typer.echo(f"{name:11} {found or 'not installed'}")
        raise typer.Exit


def main() -> None:
    """Exit status: 0 done, 2 an error that the user can fix, 3 refused with --fail-on-gate, 1 an internal
    error."""
    # So that a run that is told to end takes its steps and its temporary files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # What is away is told once, by the command itself.
    logging.getLogger("urllib3.connectionpool").addFilter(_is_no_retry)
    completion.answer_bash()
    try:
        app()
    except DefectlineError as error:
        _end(error)
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] == "defectline":
            raise
        _end(hints.missing(hints.command_in(sys.argv[1:], SUBCOMMANDS), error.name))


def _is_no_retry(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Retrying (")


def _end(error: DefectlineError) -> NoReturn:
    typer.secho(hints.typed(str(error)), err=True, fg=typer.colors.RED)
    raise SystemExit(2) from None
