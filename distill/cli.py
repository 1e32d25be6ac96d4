"""The command line: arguments in, one call, text and an exit code out.

Every command is a function of ``distill.pipeline`` whose signature and docstring become its
options and help, so that the two cannot drift apart. Exit codes: 0 done; 1 something was found
wrong by ``verify``, ``validate`` or ``doctor``; 2 the user can mend it; 130 Ctrl-C.
"""

import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from distill import pipeline
from distill.options import COMMON, HEADING, SPECIAL

COMPLETION = "_DISTILL_COMPLETE"  # set by a shell that asks what can follow
EXIT_FOUND_WRONG = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

# typer brings its own copy of click from 0.20 on; this is the base of its complaints either way
Complaint: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


class Interrupted(Exception):  # noqa: N818 - not an error
    """Ctrl-C, out of reach of typer, which would leave without a word."""


# What a parameter that is no option of the config says in the help.
ARGUMENTS = {
    "run": "run folder",
    "config": "TOML file with settings",
    "overwrite": "do finished work anew, or write over a file",
    "search_only": "stop when the settings are chosen, before a student answers test rows",
    "repair": "redo the chunks that are damaged",
    "validate": "measure what the map did to distances",
    "split": "train, validation or test",
    "reference": "store to compare with; the run's features unless named",
    "labels": "file of labels, one a row: npy, npz, csv, txt, json, parquet",
    "key": "array or column of the features, where a file holds several",
    "label_key": "array or column of the labels",
    "ids": "file of ids, one a row; row numbers unless named",
    "student": "name of the student, where a run has several; or the path of one",
    "budget": "share of dense FLOPs that a nested network may take; to predict, all unless said",
    "batch_size": "inputs a batch",
    "device": "auto, cpu, cuda, cuda:1 or mps",
    "output": "file to write as well; its ending says the format: .csv, .json or .parquet",
    "skip_bad": "leave out inputs that cannot be read, and say which",
    "format": "onnx or torch-export; otherwise the ending of --output says it",
    "int8": "weights of eight bits; their accuracy is measured on validation",
    "text_columns": "column of the texts in a table; two with a comma for pairs",
    "export output": "file to write: .onnx or .pt2; otherwise beside the student",
}
POSITIONAL = {
    "config": "TOML file with settings",
    "candidate": "store to compare: a folder ….zarr, or the name of a projected store",
    "features": "file of embeddings: npy, npz, parquet or safetensors",
    "store": "a folder ….zarr",
    "to": "file to write; its ending says the format: .npy, .parquet or .faiss",
    "path": "run folder or store",
    "inputs": "image files, folders of them, lines of text, files of lines, or tables",
}


class Command(typing.NamedTuple):
    """A command: its name and its function."""

    name: str
    call: Callable[..., Any]


COMMANDS = (
    Command("run", pipeline.run),
    Command("train-teacher", pipeline.train_teacher),
    Command("extract", pipeline.extract),
    Command("project", pipeline.project),
    Command("validate", pipeline.validate),
    Command("train-head", pipeline.train_head),
    Command("sweep", pipeline.sweep),
    Command("train-student", pipeline.train_student),
    Command("compare-students", pipeline.compare_students),
    Command("nest", pipeline.nest),
    Command("frontier", pipeline.frontier),
    Command("nest-lm", pipeline.nest_lm),
    Command("report", pipeline.report),
    Command("import", pipeline.import_features),
    Command("export", pipeline.export),
    Command("export-store", pipeline.export_store),
    Command("doctor", pipeline.doctor),
    Command("info", pipeline.info),
    Command("verify", pipeline.verify),
    Command("predict", pipeline.predict),
)
PLANNED = ("run", "train-teacher", "extract", "project", "train-student", "sweep")
ONE_WAY = ("random_init",)  # an option of weights puts that off


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        returned = _app(words)(args=words or ["--help"], standalone_mode=False)
    except Complaint as error:
        message: str = error.format_message()  # type: ignore[attr-defined]
        return _complain(" ".join(message.split()))
    except pipeline.UserError as error:
        return _complain(str(error))
    except (KeyboardInterrupt, Interrupted):
        print(
            "\ndistill: interrupted; what was finished is kept: run the same command to go on",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `distill info | head`
        sys.stderr.close()
        return 0
    return returned if isinstance(returned, int) else 0


def _complain(text: str) -> int:
    print(f"distill: {text}", file=sys.stderr)
    return EXIT_USER_ERROR


def _app(words: Sequence[str]) -> Callable[..., Any]:
    """All commands by name and help; options only of the one that is called."""
    called = next((word for word in words if not word.startswith("-")), "")
    completing = COMPLETION in os.environ
    app = typer.Typer(
        name="distill",
        help="Small models from low-dimensional views of a large one's features.",
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in COMMANDS:
        text = (inspect.getdoc(command.call) or "").partition(HEADING)[0].replace("``", "")
        told = command.name == called or completing
        call = _translated(command) if told else _untold
        app.command(command.name, help=text, short_help=text.split("\n")[0])(call)
    return typer.main.get_command(app)


def _untold() -> None:
    """Stand in for a command that is not called: reading all signatures takes a while."""


def _version(asked: bool) -> None:
    if asked:
        print(f"distill {metadata.version('subspace-distill')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say which this is")
    ] = False,
) -> None:
    """What comes before a command."""


def _translated(command: Command) -> Callable[..., int]:
    """A function that typer can read, calling the command's own."""
    parameters = [*_parameters(command), *_switches(command.name)]
    if command.name == "run":
        named = typer.Option("--config", help=ARGUMENTS["config"])
        parameters.append(_parameter("config_file", Annotated[Path | None, named], None))

    def run_command(**values: Any) -> int:
        switches = {name: values.pop(name, False) for name in ("json", "quiet", "verbose")}
        dry_run = values.pop("dry_run", False)
        from distill.bars import Bars

        if "config_file" in values:  # `run` takes it in both forms
            values["config"] = values.pop("config_file") or values["config"]
        if "progress" in inspect.signature(command.call).parameters:
            values["progress"] = Bars(verbose=switches["verbose"], quiet=switches["quiet"])
        try:
            if dry_run:
                del values["progress"]
                result = pipeline.plan(command.name, **values)
            else:
                result = command.call(**values)
        except KeyboardInterrupt as stop:
            raise Interrupted from stop
        return _show(result, as_json=switches["json"], quiet=switches["quiet"])

    run_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_command.__annotations__ = {p.name: p.annotation for p in parameters}
    return run_command


def _parameters(command: Command) -> list[inspect.Parameter]:
    """The parameters of a command's function in typer's words."""
    found = []
    hints = typing.get_type_hints(command.call, include_extras=True)
    for parameter in inspect.signature(command.call).parameters.values():
        if parameter.name == "progress":
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            (table,) = typing.get_args(hints[parameter.name])
            found += _options(table, command)
        else:
            found.append(_own(parameter, hints[parameter.name], command.name))
    return found


def _options(table: type, command: Command) -> list[inspect.Parameter]:
    """An option for each key of a TypedDict; None where it was not given."""
    options = COMMON | SPECIAL.get(command.call.__name__, {})
    return [
        _keyword(name, _narrow(hint) | None, None, options[name].help)
        for name, hint in typing.get_type_hints(table).items()
    ]


def _own(parameter: inspect.Parameter, hint: Any, command: str) -> inspect.Parameter:
    """A parameter of the function itself: an argument or an option."""
    name, default = parameter.name, parameter.default
    if default is parameter.empty or (command, name) in (
        ("run", "config"),
        ("validate", "candidate"),
        ("info", "path"),
        ("verify", "path"),
    ):
        text = POSITIONAL.get(name, "")
        default = ... if default is parameter.empty else default
        return _parameter(name, _annotated(_narrow(hint), typer.Argument(help=text)), default)
    text = ARGUMENTS.get(f"{command} {name}") or ARGUMENTS.get(name, "")
    return _keyword(name, _narrow(hint), default, text)


def _switches(command: str) -> list[inspect.Parameter]:
    """What every command takes."""
    found = [
        _keyword("json", bool, False, "print the result as JSON"),
        _keyword("quiet", bool, False, "print nothing but errors (and --json)"),
        _parameter(
            "verbose", Annotated[bool, typer.Option("--verbose", "-v", help="say more")], False
        ),
    ]
    if command in PLANNED:
        found.append(
            _keyword("dry_run", bool, False, "say what would be done, how long, how much disk")
        )
    return found


def _keyword(name: str, hint: Any, default: Any, text: str) -> inspect.Parameter:
    """``--some-name``; a flag that may be on already also has ``--no-some-name``.

    So may all that the config keeps (whose default here is None: not given).
    """
    flag = "--" + name.replace("_", "-")
    if hint is bool or hint == (bool | None):
        both = default is True or (default is None and name not in ONE_WAY)
        flag = f"{flag}/--no-{name.replace('_', '-')}" if both else flag
    return _parameter(name, Annotated[hint, typer.Option(flag, help=text)], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    empty = inspect.Parameter.empty if default is ... else default
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=empty
    )


def _annotated(hint: Any, told: Any) -> Any:
    """``Annotated[hint, told]`` for a hint known only now."""
    annotated: Any = Annotated  # to a type checker, a form that takes no variables
    return annotated[hint, told]


def _narrow(hint: Any) -> Any:
    """What a function takes in several forms is a path, or else a text, on the command line."""
    members = set(typing.get_args(hint))
    if {Path, str} <= members:
        return Path | None if type(None) in members else Path
    if typing.get_origin(hint) is Sequence:
        return list[str]  # the only sequence a command takes: words
    if str in members:
        return str
    lists = [member for member in members if typing.get_origin(member) is list]
    if lists:  # repeatable; words where any are allowed
        return list[str] if str in typing.get_args(*typing.get_args(lists[0])) else lists[0]
    return hint


def _show(result: Any, *, as_json: bool, quiet: bool) -> int:
    """Print a finding; the exit code says whether what it checked was sound."""
    from distill.text import as_text

    if as_json:
        print(json.dumps(result.to_json(), indent=2, sort_keys=True, ensure_ascii=False))
    elif not quiet:
        print(as_text(result))
    return 0 if getattr(result, "passed", True) else EXIT_FOUND_WRONG
