"""The model card of a shared student: what it is, what was measured, how it is used.

Every word that comes from data is escaped: a class name is no markup. Numbers are those of the
record; where there is none, or the weights were changed since, the card says so.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from students.encoders import count_parameters

if TYPE_CHECKING:
    from students.hub import PretrainedStudent

MOST_CLASSES = 200
TASKS = {"image": "image-classification", "text": "text-classification"}
# what Markdown reads as markup; an underscore inside a word is none, and names are full of them
MARKUP = re.compile(r"[\\`*\[\]{}<>|~$#&!]|(?<!\w)_|_(?!\w)")
ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}
METHODS = {
    "subspace": "subspace-native distillation: it was taught to emit the teacher's projected "
    "features (as in arXiv 2512.23410)",
    "labels": "the labels alone",
    "logits": "logit distillation",
}
USE = """```python
from students import PretrainedStudent

student = PretrainedStudent.from_pretrained("{name}")
logits = student(prepared)  # (rows, {classes}); student.embed(prepared) gives (rows, {width})

import distill

labels, probabilities = distill.load_predictor("{name}").predict({inputs})
```"""


def model_card(student: "PretrainedStudent", common: ModelCardData) -> ModelCard:
    """Build the card of this student; ``common`` is what all of the library share."""
    text = "\n".join(_lines(student)).rstrip("\n")
    return ModelCard(f"---\n{_data(student, common).to_yaml()}\n---\n\n{text}\n")


def escaped(value: object) -> str:
    """Make one line that shows as itself: no tag, link, emphasis or cell begins in it."""
    line = " ".join(str(value).split())
    return MARKUP.sub(lambda found: ENTITIES.get(found[0], f"\\{found[0]}"), line)


def _data(student: "PretrainedStudent", common: ModelCardData) -> ModelCardData:
    """Write the same for the hub's own tables."""
    task = TASKS.get(student.blueprint.modality, "")
    found: dict[str, Any] = {**vars(common), "pipeline_tag": task or None}
    record = student.record
    if record and student.measured:
        data = record.get("data") or "unknown"
        found["model_name"] = record["name"]
        found["eval_results"] = [
            EvalResult(
                task_type=task,
                dataset_type=data,
                dataset_name=data,
                dataset_split="test",
                metric_type="accuracy",
                metric_value=round(record["test"]["accuracy"], 6),
            )
        ]
    return ModelCardData(**found)


def _lines(student: "PretrainedStudent") -> Iterator[str]:
    record, blueprint = student.record, student.blueprint
    yield from (f"# {escaped(record.get('name') or blueprint.name)}", "")
    reads = {"image": "images", "text": "texts"}.get(blueprint.modality, blueprint.modality)
    yield (
        f"A small network that tells {len(student.classes)} classes of {reads} apart. Between "
        f"network and head it emits {student.dim_out} numbers."
    )
    yield ""
    yield from _measured(student)
    yield from ("## How it is used", "")
    yield USE.format(
        name="FOLDER-OR-NAME",
        classes=len(student.classes),
        width=student.dim_out,
        inputs="images" if blueprint.modality == "image" else "texts",
    )
    yield ""
    yield from _classes(student.classes)
    yield from _table("How inputs are prepared", _facts(student.preprocessing))
    yield from _table("What it was made from", _facts(student.made_by))


def _measured(student: "PretrainedStudent") -> Iterator[str]:
    record = student.record
    yield from ("## What was measured", "")
    if not record:
        yield from ("Nothing is known: the student came without the record of its run.", "")
        return
    if not student.measured:
        yield from (
            "**The weights were changed after these numbers were measured: they are those of the "
            "student it was made from.**",
            "",
        )
    yield from _rows(dict(_numbers(record, student)))
    notes = [record.get("data_note"), *record.get("run_notes", ()), *record.get("notes", ())]
    said = [escaped(note) for note in notes if note]
    if said:
        yield from ("Notes:", "", *(f"- {note}" for note in said), "")


def _numbers(record: Mapping[str, Any], student: "PretrainedStudent") -> Iterator[tuple[str, str]]:
    test = record["test"]
    yield "test accuracy", f"{_percent(test['accuracy'])} ({_interval(test)}, {test['rows']} rows)"
    worst, worst_accuracy = test["worst_class"], test["worst_class_accuracy"]
    yield "worst class", f"{escaped(worst)}, {_percent(worst_accuracy)}"
    for part in record.get("prefixes", ()):
        yield f"its first {part['dim_out']} numbers alone", _percent(part["test"]["accuracy"])
    difference = record.get("difference")
    if difference:
        low, high = (100 * difference["interval"][end] for end in ("low", "high"))
        yield (
            f"points to {_side(difference['against'])}",
            f"{100 * difference['value']:+.2f} (95 % interval {low:+.2f} to {high:+.2f}, paired)",
        )
    if record.get("agreement") is not None:
        yield "predicts what the teacher's head predicts", _percent(record["agreement"])
    parameters, teachers = count_parameters(student.network), record.get("teacher_parameters")
    share = f", 1/{teachers / parameters:.0f} of the teacher's {teachers:,}" if teachers else ""
    yield "parameters", f"{parameters:,}{share}"
    yield "network", escaped(record["network"])
    target = f"; target {escaped(record['target'])}" if record.get("target") else ""
    method = record["method"]
    yield "taught by", METHODS.get(method, escaped(method)) + target
    yield "teacher", escaped(record.get("teacher") or "unknown")
    yield "data", escaped(record.get("data") or "unknown")
    yield "epochs", f"{record['epochs']}, of which number {record['best_epoch']} is kept"
    yield "seed", str(record["seed"])


def _side(against: str) -> str:
    return "the teacher's full head" if against == "full" else escaped(against)


def _interval(test: Mapping[str, Any]) -> str:
    low, high = (_percent(test["interval"][end]) for end in ("low", "high"))
    return f"95 % interval {low} to {high}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _facts(values: Mapping[str, Any]) -> dict[str, str]:
    """Plain settings as text; long ones (a list of class names) stand in the config."""
    told = {name: json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return {
        escaped(name): escaped(text) if len(text) <= 120 else "see config.json"
        for name, text in sorted(told.items())
    }


def _classes(classes: tuple[str, ...]) -> Iterator[str]:
    more = f", and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    names = ", ".join(escaped(name) for name in classes[:MOST_CLASSES])
    yield from ("## Classes", "", f"In the order of the logits: {names}{more}.", "")


def _table(heading: str, rows: Mapping[str, str]) -> Iterator[str]:
    if rows:
        yield from (f"## {heading}", "")
        yield from _rows(rows)


def _rows(rows: Mapping[str, str]) -> Iterator[str]:
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {text} |" for name, text in rows.items())
    yield ""
