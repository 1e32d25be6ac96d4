"""From what was given to settings, and from options to a docstring."""

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from distill.options.told import COMMON, SPECIAL, Option

AUTO = "auto"  # the factor that the sweep recommends
# settings that are lists; one value alone, or a text with commas, will do
LISTED = ("data.text_columns", "sweep.kinds", "compare.methods", "nest.include", "frontier.rivals")
NUMBERS = (
    "project.factors", "project.seeds", "head.l2", "sweep.factors", "student.prefixes",
    "frontier.budgets", "nest.budgets", "nest.ranks",
)  # fmt: skip


HEADING = "\n\nOptions\n-------\n"


def documented(call: Callable[..., Any]) -> str:
    """The docstring of a function, and below ``HEADING`` the options that it takes."""
    texts = COMMON | SPECIAL.get(call.__name__, {})
    tables = [
        parameter
        for parameter in inspect.signature(call).parameters.values()
        if parameter.kind is parameter.VAR_KEYWORD
    ]
    # a function without options may name a part in quotes, which is not loaded to be read here
    hints = typing.get_type_hints(call) if tables else {}
    lines = [
        f"{name} : {inspect.formatannotation(hint)}\n    {texts[name].help}"
        for parameter in tables
        for table in typing.get_args(hints[parameter.name])
        for name, hint in typing.get_type_hints(table).items()
    ]
    text = inspect.getdoc(call) or ""
    return text + HEADING + "\n".join(lines) if lines else text


def overrides(
    options: Mapping[str, Any], special: Mapping[str, Option] | None = None
) -> dict[str, Any]:
    """Settings by dotted key from options by name; what is None was not given.

    Raises ``TypeError`` for an option that does not exist, as a wrong keyword does.
    """
    table = COMMON | dict(special or {})
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name == "random_init":
            # before this, an option that names frozen weights
            found |= {"teacher.weights": "random"} if value else {}
        elif name not in table:
            raise TypeError(f"{name!r} is not an option")
        elif value is not None:
            found |= {key: _shaped(key, value) for key in table[name].keys}
    return found


def _shaped(key: str, value: Any) -> Any:
    if key in NUMBERS:  # a repeatable option takes commas too
        return [number for one in several(value) for number in several(one)]
    return several(value) if key in LISTED else value


def several(value: Any) -> list[Any]:
    """Make a list of what may be one: a text is cut at its commas, a single value stands alone."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return list(value) if isinstance(value, Iterable) else [value]
