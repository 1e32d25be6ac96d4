"""The ways to teach that are compared: what is searched of each, and what it takes of a store.

A contender's own settings are pinned at what its authors say, or at 1; the subspace's are those of
the config. Every network's learning rate is searched, and the weights of the terms it adds up. A
map's kind after a colon (``subspace:pca``, or ``pca`` alone) learns that store instead. Ways meet
at equal bytes by how many views of each example they learn, a number after an at sign
(``logits@2``), and by how many chances of a row are kept (``top-logits:20``).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from distill.comparing.search import Among, Around, Settings, Space
from distill.comparing.text import STATIC_DEFAULTS, STATIC_SPACE, TFIDF_DEFAULTS, TFIDF_SPACE
from distill.errors import StageError, nearest
from projections import KINDS

REFERENCE = "subspace"  # what all others are compared with, unless told otherwise
SKETCH = "sketch"
DECOUPLED = "sketch-dkd"  # its KL is DKD's: alpha is kl_weight, beta eight times as much
MAPPED = (REFERENCE, SKETCH, DECOUPLED)  # these learn the store of a map, which may be named
TARGETS, FEATURES, LOGITS, LABELS, TEACHER = "targets", "features", "logits", "labels", "teacher"
TOP_LOGITS = "top-logits"
TOP = 10  # chances of a row that it keeps, unless told otherwise
VIEWS = "@"

RATE: Space = {"learning_rate": Around(factor=4.0)}
WEIGHT = Around(factor=10.0)
WARM = Among(values=(1.0, 2.0, 4.0, 8.0))
PLAIN: Settings = {"calibrate": False}  # what mends the subspace's answers is no part of a rival


@final
@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to teach, by its name on the command line."""

    name: str
    method: str  # in the tables of methods; "" for what trains no network
    about: str  # what it learns, in a few words
    takes: tuple[str, ...]  # of a training example: targets, features, logits, labels, teacher
    space: Space
    defaults: Settings = field(default_factory=dict)  # over the config's
    kind: str = ""  # of the map whose store it learns; "" for the config's

    @property
    def in_space(self) -> bool:
        """Whether its students answer with the k numbers of a map."""
        return self.method in ("subspace", "online")


def _highest(top: int) -> str:
    return f"the {top} highest chances of a row, and labels"


def _own(names: Iterable[str]) -> Space:
    return {**RATE, **{name: WARM if name == "temperature" else WEIGHT for name in names}}


SUBSPACE_SPACE = _own(("kl_weight", "ce_weight", "temperature"))
MATCHED: Settings = {**PLAIN, "target_weight": 1.0, "ce_weight": 1.0}
ENDLESS: Settings = {
    "targets": "raw", "shrink": 0.0, "average_views": False, "prefixes": (), "loss": "mse",
    "decouple": 0.0,
}  # fmt: skip

_SKETCH = Contender(
    name=SKETCH,
    method="sketch",
    about="the projected rows behind a learned map, what their head says, and labels",
    takes=(TARGETS, LABELS),
    space=_own(("target_weight", "kl_weight", "temperature")),
    defaults={
        **PLAIN, **ENDLESS, "target_weight": 1.0, "kl_weight": 1.0, "ce_weight": 1.0,
        "temperature": 4.0, "projector": 0,
    },
)  # fmt: skip
_TABLE = (
    Contender(
        name=REFERENCE,
        method="subspace",
        about="the projected rows",
        takes=(TARGETS,),
        space=SUBSPACE_SPACE,
        defaults={"decouple": 0.0},
    ),
    _SKETCH,
    replace(
        _SKETCH,
        name=DECOUPLED,
        about="the projected rows behind a map, what their head says decoupled (DKD), labels",
        defaults={**_SKETCH.defaults, "decouple": 8.0},
    ),
    Contender(
        name="labels",
        method="labels",
        about="labels alone",
        takes=(LABELS,),
        space=RATE,
        defaults=PLAIN,
    ),
    Contender(
        name="logits",
        method="logits",
        about="softened logits and labels (Hinton)",
        takes=(LOGITS, LABELS),
        space=_own(("kl_weight", "temperature")),
        defaults={**PLAIN, "kl_weight": 1.0, "ce_weight": 1.0, "temperature": 4.0},
    ),
    Contender(
        name=TOP_LOGITS,
        method="logits",
        about=_highest(TOP),
        takes=(LOGITS, LABELS),
        space=_own(("kl_weight", "temperature")),
        defaults={
            **PLAIN, "kl_weight": 1.0, "ce_weight": 1.0, "temperature": 4.0, "top_logits": TOP,
        },
    ),
    Contender(
        name="logit-mse",
        method="logit-mse",
        about="logits by squares (Ba & Caruana)",
        takes=(LOGITS,),
        space=RATE,
        defaults=PLAIN,
    ),
    Contender(
        name="dkd",
        method="dkd",
        about="decoupled logits and labels (DKD)",
        takes=(LOGITS, LABELS),
        space=_own(("target_weight", "kl_weight", "temperature")),
        defaults={
            **PLAIN, "target_weight": 1.0, "kl_weight": 8.0, "ce_weight": 1.0, "temperature": 4.0,
        },
    ),
    Contender(
        name="features",
        method="features",
        about="all features behind a learned map, and labels (FitNet)",
        takes=(FEATURES, LABELS),
        space=_own(("target_weight",)),
        defaults=MATCHED,
    ),
    Contender(
        name="vkd",
        method="vkd",
        about="standardised features behind an orthogonal map, and labels (VkD)",
        takes=(FEATURES, LABELS),
        space=_own(("target_weight",)),
        defaults=MATCHED,
    ),
    Contender(
        name="simkd",
        method="simkd",
        about="all features behind a projector that stays, under the teacher's head (SimKD)",
        takes=(FEATURES,),
        space=RATE,
        defaults=PLAIN,
    ),
    Contender(
        name="rdimkd",
        method="rdimkd",
        about="features of both sides behind random maps, and labels (RdimKD)",
        takes=(TARGETS, LABELS),
        space=_own(("target_weight",)),
        defaults=MATCHED,
    ),
    Contender(
        name="online",
        method="online",
        about="the projected rows of a new view every epoch, made by the teacher",
        takes=(TEACHER,),
        space=SUBSPACE_SPACE,
        defaults=ENDLESS,
    ),
    Contender(
        name="pretrained",
        method="pretrained",
        about="labels, from the weights of --student-weights",
        takes=(LABELS,),
        space={"learning_rate": Around(factor=10.0)},
        defaults=PLAIN,
    ),
    Contender(
        name="tfidf",
        method="",
        about="counted words",
        takes=(LABELS,),
        space=TFIDF_SPACE,
        defaults=TFIDF_DEFAULTS,
    ),
    Contender(
        name="model2vec",
        method="",
        about="token vectors of the untaught teacher (model2vec)",
        takes=(LABELS,),
        space=STATIC_SPACE,
        defaults=STATIC_DEFAULTS,
    ),
)  # fmt: skip
CONTENDERS: Mapping[str, Contender] = {one.name: one for one in _TABLE}


def contenders(names: Sequence[str], *, reference: str = REFERENCE) -> tuple[Contender, ...]:
    """The contenders of these names, the reference first and none twice; ``StageError`` else."""
    found = {one.name: one for one in map(contender, (reference, *names))}
    return tuple(found.values())


def contender(name: str) -> Contender:
    """The contender of this name; ``StageError`` names the nearest."""
    if name in CONTENDERS:
        return CONTENDERS[name]
    if VIEWS in name:
        return _seeing(*name.rsplit(VIEWS, 1))
    method, colon, kind = name.partition(":") if ":" in name else (REFERENCE, ":", name)
    if method == TOP_LOGITS:
        return _keeping(kind)
    if method in MAPPED and colon and kind in KINDS:
        one = CONTENDERS[method]
        return replace(
            one, name=f"{method}:{kind}", about=f"{one.about}, of the {kind} map", kind=kind
        )
    known = (*CONTENDERS, *(f"{own}:{kind}" for own in MAPPED for kind in KINDS))
    hint = nearest(name, (*known, *KINDS), cutoff=0.5) or f"; known: {', '.join(known)}"
    raise StageError(f"no way to teach is called {name!r}{hint}")


def _keeping(top: str) -> Contender:
    """The way that learns so many of a row's highest chances."""
    if not (top.isascii() and top.isdecimal() and int(top)):
        raise StageError(
            f"after {TOP_LOGITS}: stands how many chances of a row are kept, as in "
            f"{TOP_LOGITS}:{2 * TOP}; got {top!r}"
        )
    one = CONTENDERS[TOP_LOGITS]
    return replace(
        one,
        name=f"{TOP_LOGITS}:{int(top)}",
        about=_highest(int(top)),
        defaults={**one.defaults, "top_logits": int(top)},
    )


def _seeing(name: str, views: str) -> Contender:
    """The contender of this name with fewer views; 0: the examples as they are."""
    if not (views.isascii() and views.isdecimal()):
        raise StageError(
            f"after {VIEWS} stands how many views are learned, as in {name}{VIEWS}2; got {views!r}"
        )
    one = contender(name)
    if not one.method or one.takes == (TEACHER,):
        raise StageError(f"{one.name} learns no stored views, so {VIEWS}{views} says nothing to it")
    seen = f"{int(views)} view{'' if int(views) == 1 else 's'}" if int(views) else "no views"
    return replace(
        one,
        name=f"{one.name}{VIEWS}{int(views)}",
        about=f"{one.about}; {seen}",
        defaults={**one.defaults, "views": int(views)},
    )
