"""What the teacher, the heads and the students of a run cost: measured once, then remembered."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.config import fingerprint
from distill.findings import Cost, Head, Record, Student
from distill.pipeline.building import (
    feature_stores,
    projected_as_made,
    the_device,
    the_teacher,
)
from distill.pipeline.opening import Opened
from distill.progress import Progress
from distill.runs import recall, remember


@dataclass(frozen=True, kw_only=True)
class Costs(Record):
    """All costs of one run."""

    costs: tuple[Cost, ...]


def costs_of(
    opened: Opened, heads: Sequence[Head], students: Sequence[Student], *, progress: Progress
) -> tuple[Cost, ...]:
    """Parameters, multiply-adds, bytes and latency of everything that could be shipped.

    Latencies are of this machine, so they are measured again only when there is something new.
    """
    run, config = opened.run, opened.config
    made_from = fingerprint(
        [(head.name, head.dim_out, head.classes, head.l2) for head in heads],
        [(student.name, student.parameters, student.seconds) for student in students],
        the_device(config),
        config.teacher,
    )
    earlier = recall(run.costs, Costs, made_from=made_from)
    if earlier is not None:
        return earlier.costs
    found = [*_head_costs(opened, heads), *_network_costs(opened, students, progress)]
    remember(run.costs, Costs(costs=tuple(found)), made_from=made_from)
    return tuple(found)


def _head_costs(opened: Opened, heads: Sequence[Head]) -> list[Cost]:
    from distill.stages.measure import measure_head
    from students import load_head

    found = []
    for head in heads:
        path = opened.run.heads / head.name / "head.safetensors"
        fitted, _ = load_head(path)
        found.append(
            measure_head(head.name, fitted.weight, fitted.bias, bytes_on_disk=path.stat().st_size)
        )
    return found


def _network_costs(opened: Opened, students: Sequence[Student], progress: Progress) -> list[Cost]:
    """The teacher with its full head, and each student with its own, on a real input."""
    run, config = opened.run, opened.config
    if config.data.name.startswith("import:"):
        return []
    import torch

    from distill.predictor import load_predictor
    from distill.stages.measure import measure
    from students import Classifier, carried_head, load_head

    device = the_device(config)
    dataset = opened.dataset
    teacher = the_teacher(run, config, dataset)
    example = [dataset.splits["train"].inputs[0]]
    full, _ = load_head(run.heads / "full" / "head.safetensors")
    projection = projected_as_made(feature_stores(run))
    # a head on projected features and the map before it are one head on the teacher's
    weight = full.weight if projection is None else full.weight @ projection.matrix.T
    head = carried_head(torch.from_numpy(weight), torch.from_numpy(full.bias))
    whole = Classifier(teacher.module, head)
    with progress.task("measure", total=1 + len(students), unit="networks") as advance:
        prepared = teacher.prepare(example)
        found = [measure(teacher.card.name, "teacher", whole, prepared, device=device)]
        advance(1)
        for student in students:
            folder = run.students / student.name
            predictor = load_predictor(folder, device=device)
            found.append(
                measure(
                    student.name,
                    "student",
                    predictor.student.network,
                    predictor.prepare(example),
                    device=device,
                    bytes_on_disk=(folder / "student.safetensors").stat().st_size,
                )
            )
            advance(1)
    return found
