"""``nest-lm``: a causal language model of any budget, taught, and measured beside its rivals.

It is cut first, which is kept (``start.safetensors``), then taught at a few points of its path by
what the dense network says. Then it and its rivals, each in a folder of its own, answer the
validation and the test windows once, and all are timed in turn.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from distill.allocator import memory_kept
from distill.config import FrontierConfig, NestConfig, fingerprint
from distill.contest import Contestant, Runner
from distill.contest_answers import Answers, answers_of
from distill.contest_times import timed
from distill.contestants import RIVALS, Ground, Many, Nested, dense_of, why_not
from distill.contestants.ground import choose_ranks
from distill.findings import LanguageFrontier
from distill.language import JUDGED, LanguageRoom, Windows
from distill.language_curves import Heard, curve_of, notes_of, picked_of, points_of
from distill.nesting import (
    SURGICAL,
    Batches,
    Trials,
    deciding,
    digest_of,
    lessons_of,
    operate,
    trials_of,
)
from distill.progress import Progress
from distill.rank_lessons import hint_notes, objective_of, recipe_of
from distill.replacing import replacing
from distill.tried import forget_tried, tried_ranks
from students import plain_settings, same_settings
from students.nested import (
    NestedPath,
    SavedNested,
    Tried,
    attach,
    fill,
    give_biases,
    read_nested,
    save_nested,
    select,
)
from teachers import Language

FILE, START = "nested.safetensors", "start.safetensors"
TOKENIZER = "tokenizer"


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Spoken:
    """A language model and what it is taught with."""

    language: Language
    windows: Mapping[str, Windows]
    data: str
    fingerprint: str  # of the windows
    label_weight: float  # of the next tokens, beside what the dense network says
    notes: Sequence[str] = ()


@memory_kept()
def nest_lm(
    spoken: Spoken,
    *,
    folder: Path,
    contest: Path,
    settings: NestConfig,
    frontier: FrontierConfig,
    device: str,
    progress: Progress,
    overwrite: bool = False,
) -> LanguageFrontier:
    """Nest the model in ``folder``, and measure it beside its rivals in ``contest``.

    Killed or interrupted, the same call goes on; what is finished is read back.
    ``CheckpointError`` for a folder of other settings, unless ``overwrite``; errors of the surgery
    as ``students.nested.nest``.
    """
    study = _Study(
        spoken=spoken,
        folder=folder,
        contest=contest,
        settings=settings,
        frontier=frontier,
        device=device,
        progress=progress,
    )
    told: Any = {"wanted": overwrite, "made_from": fingerprint(study.made_by())}
    with replacing(contest, **told) as answers, replacing(folder, **told) as network:
        return replace(study, folder=network, contest=answers).finish()


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class _Study:
    spoken: Spoken
    folder: Path
    contest: Path
    settings: NestConfig
    frontier: FrontierConfig
    device: str
    progress: Progress

    def finish(self) -> LanguageFrontier:
        """All of it, from where it stands."""
        language = self.spoken.language
        dense = language.speaker.to(self.device).eval().requires_grad_(False)
        made_by = self.made_by()
        objective = replace(objective_of(self.settings), ce_weight=self._label_weight())
        room = LanguageRoom(
            windows=self.spoken.windows,
            dense=dense,
            recipe=recipe_of(self.settings),
            objective=objective,
            made_by=made_by,
            device=self.device,
            progress=self.progress,
            hinted=tuple(select(dense, self.settings.include).layers),
            calibration=self._calibration(),
        )
        start = self._start(made_by)
        self.progress.say(start.surgery.as_text())
        lessons = lessons_of(start.path, self.settings)
        taught, updates = self._taught(start, lessons, room, made_by)
        ground = Ground(
            dense=copy.deepcopy(dense).requires_grad_(True),
            include=tuple(self.settings.include),
            calibration=self._calibration(),
            example=self._example(),
            path=start.path,
            lessons=tuple(point.ranks for point in lessons.points),
            gauges=start.surgery.gauges,
            own_biases=taught.surgery.has_own,
            start=lambda: fill(copy.deepcopy(dense).requires_grad_(True), start),
            taught=lambda: fill(copy.deepcopy(dense), taught),
            updates=updates,
            points=self.frontier.points,
            budgets=self.frontier.budgets,
        )
        return self._measured(ground, room, taught)

    # --- the cut ----------------------------------------------------------------------------------

    def _calibration(self) -> Batches:
        """Some training windows, drawn by the seed."""
        windows = self.spoken.windows["train"]
        lots = np.random.default_rng([self.settings.seed, 0x6C6D]).permutation(len(windows))
        chosen = torch.from_numpy(windows[lots[: self.settings.calibration]])
        parts = torch.split(chosen, JUDGED)
        return [({"input_ids": part.to(self.device)},) for part in parts]

    def _example(self) -> tuple[dict[str, torch.Tensor]]:
        """One window, whose FLOPs are counted."""
        window = torch.from_numpy(self.spoken.windows["train"][:1])
        return ({"input_ids": window.to(self.device)},)

    def _start(self, made_by: Mapping[str, Any]) -> SavedNested:
        """The cut network: read back, or made and kept."""
        file = self.folder / START
        decisive = {*SURGICAL, "network", "windows"}
        surgical = {name: value for name, value in made_by.items() if name in decisive}
        if file.is_file():
            saved = read_nested(file)
            self._refuse_others(surgical, saved)
            forget_tried(self.folder)  # by a kill just after it was saved
            return saved
        network = copy.deepcopy(self.spoken.language.speaker).requires_grad_(True)
        layers = len(select(network, self.settings.include).layers)
        calibration = self._calibration()
        with self.progress.task("nest layers", total=layers, unit="layers") as advance:
            operate(network, calibration, self.settings, on_layer=advance)
        trials = trials_of(network, self._example(), calibration, self.settings, batch=JUDGED)
        with tried_ranks(self.folder, surgical) as tried:
            path = self._path(trials, tried)
            lessons_of(path, self.settings)  # a budget out of reach needs no start
            self.folder.mkdir(parents=True, exist_ok=True)
            save_nested(file, network, path=path, card={**self._card(), "made_by": surgical})
        return read_nested(file)

    def _path(self, trials: Trials, tried: Tried) -> NestedPath:
        if self.settings.ranks:
            return trials.alike(self.settings.ranks)
        with self.progress.task("try ranks", total=trials.passes, unit="passes") as advance:
            return trials.path(self.settings.floor, tried=tried, on_forward=advance)

    def _refuse_others(self, made_by: Mapping[str, Any], saved: SavedNested) -> None:
        same_settings(
            made_by,
            saved.card["made_by"],
            what=f"the network in {self.folder}",
            instead="give this one a name of its own with --name",
        )

    # --- learning ---------------------------------------------------------------------------------

    def _taught(
        self,
        start: SavedNested,
        lessons: NestedPath,
        room: LanguageRoom,
        made_by: Mapping[str, Any],
    ) -> tuple[SavedNested, int]:
        """The taught network, and with how many updates: read back, or taught and kept."""
        file = self.folder / FILE
        if file.is_file():
            saved = read_nested(file)
            self._refuse_others(made_by, saved)
            self.progress.say(f"{self.folder.name} is nested already")
            return saved, int(saved.card["updates"])
        network = fill(copy.deepcopy(room.dense).requires_grad_(True), start)
        taught = tuple(point.ranks for point in lessons.points)
        if self.settings.own_biases:
            give_biases(network, taught)
        runner = Runner(network=network, choose=choose_ranks, spots=(), lessons=taught)
        result = room.teach(runner, 0, self.folder, made_by={})
        updates = int(result.history[-1]["step"])
        attach(network, start.path)
        tokenizer = self.spoken.language.tokenizer
        if tokenizer is not None:
            tokenizer.save_pretrained(str(self.folder / TOKENIZER))
        told = {
            **self._card(),
            "made_by": dict(made_by),
            "updates": updates,
            "seconds": result.seconds,
            "notes": list(result.notes),
            "lessons": [point.share for point in lessons.points],
        }
        save_nested(file, network, path=start.path, card=told)
        return read_nested(file), updates

    def _label_weight(self) -> float:
        """Where nothing is distilled, the next tokens are all that there is to learn."""
        return 1.0 if self.settings.distill == "none" else self.spoken.label_weight

    def _card(self) -> dict[str, Any]:
        language = self.spoken.language
        tokens = self.spoken.windows["train"].shape[1]
        return {"language": dict(language.config), "name": language.name, "tokens": int(tokens)}

    def made_by(self) -> dict[str, Any]:
        """All that decides the weights; flat, so that a difference has a name."""
        decisive = deciding(self.settings)
        del decisive["targets"]  # windows have but one kind
        return plain_settings(
            {
                **decisive,
                **asdict(recipe_of(self.settings)),
                "network": digest_of(self.spoken.language.speaker),
                "windows": self.spoken.fingerprint,
                "label_weight": self._label_weight(),
            }
        )

    # --- measuring --------------------------------------------------------------------------------

    def _measured(
        self, ground: Ground, room: LanguageRoom, taught: SavedNested
    ) -> LanguageFrontier:
        frontier, spoken = self.frontier, self.spoken
        left_out = {name: why for name in frontier.rivals if (why := why_not(name, ground))}
        notes = [f"{name} is left out: {why}" for name, why in left_out.items()]
        for note in notes:
            self.progress.say(note)
        many = Many(seeds=frontier.rival_seeds, networks=frontier.rank_networks)
        everyone: list[Contestant] = [
            dense_of(ground),
            Nested(ground=ground, seeds=frontier.seeds),
            *(RIVALS[name](ground, many) for name in frontier.rivals if name not in left_out),
        ]
        dense, *heard = [self._hear(one, room) for one in everyone]
        times = None
        if frontier.repeats:
            inputs = ground.example[0]
            times = timed(everyone, inputs, room, folder=self.contest, settings=frontier)
        return LanguageFrontier(
            name=self.folder.name,
            model=spoken.language.name,
            data=spoken.data,
            tokens=int(spoken.windows["train"].shape[1]),
            vocabulary=spoken.language.vocabulary,
            rows={name: len(windows) for name, windows in spoken.windows.items()},
            layers=len(taught.surgery.layers),
            dense_flops=ground.flops,
            device=self.device,
            threads=times.threads if times else 0,
            dense=points_of(dense, dense, None, times)[0],
            curves=tuple(
                curve_of(one, dense, heard[0] if at else None, times)
                for at, one in enumerate(heard)
            ),
            picked=picked_of(heard[0], dense, frontier.tolerance),
            surgery=taught.surgery.as_text(),
            # the nested network's first seed learned in a folder of its own
            seconds=float(taught.card["seconds"])
            + sum(one.answered.seconds for each in heard for one in each.answers),
            notes=(
                *spoken.notes,
                *notes,
                *hint_notes(self.settings.hint_weight, room.spreads),
                *(f"nested: {note}" for note in taught.card["notes"]),
                *notes_of(heard),
            ),
        )

    def _hear(self, contestant: Contestant, room: LanguageRoom) -> Heard:
        """All parts and seeds of a contestant, their places in one row."""
        found: list[list[Answers]] = []
        for seed in range(contestant.seeds):
            found.append([])
            for part in contestant.parts():
                name = f"{contestant.name}{f'-{part}' if part else ''}-s{seed}".replace(" ", "-")
                made_from = fingerprint(dict(room.made_by), name, contestant.made_by())
                found[-1].append(
                    answers_of(
                        contestant, part, seed, room, self.contest / name, made_from=made_from
                    )
                )
        places = [place for answers in found[0] for place in answers.answered.places]
        order = sorted(range(len(places)), key=lambda at: places[at].share)
        figures = {
            split: np.stack(
                [np.concatenate([a.predicted[split] for a in seed])[order] for seed in found],
                axis=1,
            )
            for split in ("validation", "test")
        }
        return Heard(
            contestant=contestant,
            places=tuple(places[at] for at in order),
            figures=figures,
            answers=tuple(answers for seed in found for answers in seed),
        )
