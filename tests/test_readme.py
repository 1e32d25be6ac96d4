"""The README is kept true: its map of files, its commands and its links."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = ("distill", "teachers", "projections", "students", "stores")


def first_line(path: Path) -> str:
    """What a file is for, in its own words."""
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text, f"{path} does not say what it is for"
    return text.split("\n")[0]


def file_map() -> str:
    """The map as it should stand in the README."""
    lines = []
    for package in PACKAGES:
        lines += [f"<details><summary><code>{package}/</code></summary>", ""]
        for path in sorted((ROOT / package).rglob("*.py")):
            lines.append(f"- `{path.relative_to(ROOT)}`: {first_line(path)}")
        lines += ["", "</details>", ""]
    return "\n".join(lines)


def test_the_map_of_files_is_true() -> None:
    start, end = "<!-- map -->\n", "<!-- end of map -->"
    assert README.count(start) == README.count(end) == 1
    stands = README.split(start)[1].split(end)[0]
    assert stands == file_map(), f"the map should read:\n{file_map()}"


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", README)) | set(
        re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)
    )
    assert named
    assert named <= targets


@pytest.mark.parametrize(
    "link", [m for m in re.findall(r"\]\(([^)]+)\)", README) if not m.startswith("http")]
)
def test_every_link_leads_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_every_option_that_is_named_exists() -> None:
    from distill.cli import COMMANDS, _parameters, _switches

    flags: dict[str, set[str]] = {}
    for command in COMMANDS:
        declared = [*_parameters(command), *_switches(command.name)]
        flags[command.name] = {f"--{p.name.replace('_', '-')}" for p in declared}
    for line in re.findall(r"^distill .*$", README, re.MULTILINE):
        name, *words = line.split()[1:]
        for flag in (word for word in words if word.startswith("--")):
            assert flag in flags[name], line


def test_the_python_example_runs_against_real_functions() -> None:
    import distill

    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for call in re.findall(r"distill\.(\w+)\(", block):
        assert call in distill.__all__


def test_every_package_is_in_the_wheel() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for file in (ROOT / package).rglob("__init__.py")
    }
    assert set(named) == there


def write_map() -> None:
    """Put the map into the README: ``python -c "import tests.test_readme as t; t.write_map()"``."""
    start, end = "<!-- map -->\n", "<!-- end of map -->"
    head, rest = README.split(start)
    (ROOT / "README.md").write_text(head + start + file_map() + end + rest.split(end)[1])
