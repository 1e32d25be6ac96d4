"""``nest-lm``: from a causal language model to one of any budget, and what each budget costs."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from distill.config import Config, NestConfig
from distill.findings import LanguageFrontier
from distill.options import LANGUAGE, LanguageOptions, overrides
from distill.pipeline.building import the_device
from distill.pipeline.opening import Opened, UserError, opened_for_writing, told
from distill.progress import SILENT, Progress
from distill.runs import DEFAULT_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from teachers import Language, Speaker


def nest_lm(
    run: Path | str = DEFAULT_RUN,
    *,
    config: Path | str | None = None,
    overwrite: bool = False,
    progress: Progress = SILENT,
    **options: Unpack[LanguageOptions],
) -> LanguageFrontier:
    """Turn a causal language model into one of any budget, and measure its perplexity at each.

    It learns from what it says itself whole, on windows of the data's tokens; beside it stand
    networks that were only truncated, and other rivals. Killed or interrupted, the same call goes
    on.
    """
    with opened_for_writing(run, config, overrides(options, LANGUAGE)) as opened:
        return _measured(opened, progress=progress, overwrite=overwrite)


def load_nested_lm(folder: Path | str, *, budget: float = 1.0) -> "Speaker":
    """The network of ``nest-lm`` at a budget, on the CPU: ``.model.generate`` speaks with it.

    ``distill.pipeline.UserError`` for a folder that holds none, and for a budget out of reach.
    """
    from students.nested import fill, prepare, ranks, read_nested, set_budget
    from teachers import build_language

    with told():
        saved = read_nested(Path(folder))
        if "language" not in saved.card:
            raise UserError(
                f"{folder} holds a network that tells classes: take distill.load_predictor"
            )
        speaker = build_language(saved.card["language"])
        fill(speaker, saved)
        set_budget(speaker, budget)
        prepare(speaker, [ranks(speaker)])
        return speaker


def _measured(opened: Opened, *, progress: Progress, overwrite: bool) -> LanguageFrontier:
    from distill.contestants import RIVALS
    from distill.datasets import load_windows
    from distill.reporting import write_language
    from distill.stages.nest_lm import Spoken
    from distill.stages.nest_lm import nest_lm as stage
    from students.errors import nearest
    from teachers import load_language

    config = opened.config
    _check(config)
    for name in config.frontier.rivals:
        if name not in RIVALS:
            raise UserError(f"no rival named {name!r}{nearest(name, RIVALS)}")
    language = load_language(config.language.model)
    tokens = config.language.tokens
    if language.positions and tokens > language.positions:
        raise UserError(
            f"{language.name} reads at most {language.positions} tokens, and a window is of "
            f"{tokens}; give --tokens {language.positions} or fewer"
        )
    windows = load_windows(
        config.data, tokens=tokens, vocabulary=language.vocabulary, encode=_encoder(language)
    )
    opened.keep_config()
    nest = config.nest
    if nest.distill == "anchor" and not config.language.label_weight:
        # the anchor has nobody to learn from but the dense model, and that knows more than it
        nest = nest.model_copy(update={"distill": "dense"})
    name = _name(nest, language.name)
    found = stage(
        Spoken(
            language=language,
            windows=windows.splits,
            data=windows.name,
            fingerprint=windows.fingerprint,
            label_weight=config.language.label_weight,
            notes=windows.notes,
        ),
        folder=opened.run.nested / name,
        contest=opened.run.frontiers / name,
        settings=nest,
        frontier=config.frontier,
        device=the_device(config),
        progress=progress,
        overwrite=overwrite,
    )
    found.save(opened.run.language)
    title = "" if config.title == Config().title else config.title
    write_language(found, opened.run.folder, title=title)
    return found


def _check(config: Config) -> None:
    if not config.language.model:
        raise UserError(
            "name a causal language model with --model: a folder of transformers, or a hub name"
        )
    if config.data.name == "digits":
        raise UserError("name texts to learn from and to be tested on with --data")
    if config.nest.targets != "labels":
        raise UserError("a language model learns no stored rows; leave nest.targets at labels")
    if config.nest.augment:
        raise UserError("windows of tokens have no views; leave out nest.augment")


def _encoder(language: "Language") -> Any:
    """Texts to token ids, each text closed by the token that ends one, where there is such."""
    tokenizer = language.tokenizer
    if tokenizer is None:
        return None
    last = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def encode(texts: "Sequence[str]") -> list[list[int]]:
        ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [[*each, *last] for each in ids]

    return encode


def _name(settings: NestConfig, model: str) -> str:
    """``stories260k-mlp-attention``: what was nested, and which layers, unless it has a name."""
    said = settings.name or "-".join((Path(model).name, *settings.include))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("-.") or "language-model"
