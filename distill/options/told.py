"""What each option sets, and its help text; also where a command means something else by it."""

from typing import NamedTuple


class Option(NamedTuple):
    """What an option sets, and its help text."""

    help: str
    keys: tuple[str, ...]


# of projections.KINDS, which would load half of SciPy to show a help text
MAPS = (
    "gaussian, orthogonal, sparse, achlioptas, hadamard, pca, discriminant, head-svd, fisher, "
    "learned"
)
# of distill.comparing.contenders, which would load torch
WAYS = (
    "subspace, sketch, sketch-dkd, labels, logits, top-logits, logit-mse, dkd, features, vkd, "
    "simkd, rdimkd, online, pretrained, tfidf, model2vec, or a kind of map"
)
# What an option means everywhere …
COMMON = {
    "data": Option(
        "digits, imagefolder:DIR, parquet:FILES, csv:FILES, json:FILES, or a hub name",
        ("data.name",),
    ),
    "text_columns": Option(
        "column of the text; two with a comma for sentence pairs", ("data.text_columns",)
    ),
    "label_column": Option("column of the labels", ("data.label_column",)),
    "limit": Option("at most this many examples of each split; 0 takes all", ("data.limit",)),
    "skip_bad": Option("leave out inputs that cannot be read, and say which", ("data.skip_bad",)),
    "device": Option("auto, cpu, cuda, cuda:1 or mps", ("compute.device",)),
    "workers": Option("processes that read and prepare inputs", ("compute.workers",)),
    "teacher": Option(
        "timm/NAME, torchvision/NAME, hf/NAME-or-folder, module:factory or run:STUDENT",
        ("teacher.name",),
    ),
    "weights": Option("pretrained, random, or a .safetensors or .pth file", ("teacher.weights",)),
    "random_init": Option("random weights instead of pretrained ones", ()),
    "image_size": Option("pixels a side; 0 takes what the weights want", ("teacher.image_size",)),
    "pooling": Option("mean, cls or pooler (text)", ("teacher.pooling",)),
    "layer": Option("tap this inner module instead of the last feature", ("teacher.layer",)),
    "batch_size": Option("examples a batch", ("extract.batch_size",)),
    "dtype": Option("float32 or float16, of the stored rows", ("extract.dtype",)),
    "factor": Option("compression factor dim_in / dim_out; repeatable", ("project.factors",)),
    "kind": Option(f"kind of map: {MAPS}", ("project.kind",)),
    "neighbours": Option("neighbours that recall counts", ("validation.neighbours",)),
    "queries": Option("rows whose neighbours are looked up", ("validation.queries",)),
    "eps": Option("distortion of squared distance that is tolerated", ("validation.eps",)),
    "kinds": Option(f"kinds of map, with commas between them: {MAPS}", ("sweep.kinds",)),
    "factors": Option("compression factors, with commas between them", ("sweep.factors",)),
    "seeds": Option("how many seeds, each with a held-out fold of its own", ("sweep.seeds",)),
    "tolerance": Option("accuracy that may be lost, as a share", ("sweep.tolerance",)),
    "shipped": Option("what is paid for: head or embedding", ("sweep.shipped",)),
    "memory_limit": Option(
        "memory for features, like 4GB; beyond it they are read in chunks", ("sweep.memory_limit",)
    ),
    "l2": Option("penalties to choose from; repeatable", ("head.l2",)),
    "student": Option(
        "timm/NAME, hf/TYPE, static/DIM, auto, module:factory; nested/ before any",
        ("student.name",),
    ),
    "student_weights": Option("random, or a .safetensors or .pth file", ("student.weights",)),
    "embeddings": Option("of tokens: random, or cut from the teacher's", ("student.embeddings",)),
    "budget": Option(
        "share of the teacher's multiply-adds that the student auto may cost", ("student.budget",)
    ),
    "pool": Option("learn the unlabeled examples too, where there are any", ("student.pool",)),
    "way": Option("subspace (answers in k numbers) or sketch (beside them)", ("student.way",)),
    "loss": Option("mse, normalised-mse, cosine, fisher, relational or logsum", ("student.loss",)),
    "targets": Option("raw, standardised or whitened", ("student.targets",)),
    "prefixes": Option(
        "widths below k that must do as well by themselves, with commas", ("student.prefixes",)
    ),
    "head": Option("the teacher-side head: carried, tuned, or a fresh one", ("student.head",)),
    "calibrate": Option(
        "undo the shrinkage of least squares on validation rows", ("student.calibrate",)
    ),
    "ema": Option("decay of the averaged weights that are kept; 0: none", ("student.ema",)),
    "patience": Option(
        "epochs without a better one before it stops; 0: never", ("student.patience",)
    ),
    "precision": Option("auto, float32, bfloat16 or float16", ("student.precision",)),
    "compile": Option("compile the network with torch.compile", ("student.compile",)),
    "kl_weight": Option("weight of the KL through the carried-over head", ("student.kl_weight",)),
    "ce_weight": Option("weight of the cross-entropy with the labels", ("student.ce_weight",)),
    "decouple": Option(
        "of a sketch: weight of the other classes in its KL over the label's (DKD)",
        ("student.decouple",),
    ),
    "baselines": Option(
        "also train the same network from labels, and by logit distillation",
        ("student.baselines",),
    ),
    "teach": Option("teach the teacher the task first", ("teacher.taught",)),
    "augment": Option(
        "kind of views: crop-flip, crop, strong; text: token-dropout", ("views.augment",)
    ),
    "mix": Option(
        "mix each view with one of another example: none, mixup or cutmix", ("views.mix",)
    ),
    "folds": Option(
        "as many teachers more, each without a fold of the training examples", ("teach.folds",)
    ),
    "held_out": Option(
        "training rows as teachers see them that never learned them", ("extract.held_out",)
    ),
    "unlabeled": Option(
        "data whose labels are not used, for students to learn", ("extract.unlabeled",)
    ),
    "methods": Option(f"ways to teach, with commas between them: {WAYS}", ("compare.methods",)),
    "trials": Option("settings tried for each method, chosen on validation", ("compare.trials",)),
    "finalists": Option("methods that get fresh seeds; 0: all", ("compare.finalists",)),
}
# … and what it means in one command only.
TEACH = {
    "epochs": Option("passes over the training examples", ("teach.epochs",)),
    "batch_size": Option("examples a batch", ("teach.batch_size",)),
    "learning_rate": Option("highest learning rate", ("teach.learning_rate",)),
    "augment": Option("a new view of every example each epoch, of this kind", ("teach.augment",)),
    "precision": Option("auto, float32, bfloat16 or float16", ("teach.precision",)),
    "seed": Option("seed of initial weights and order", ("teacher.seed", "teach.seed")),
}
EXTRACT = {
    "views": Option("augmented views of each training example, beside itself", ("views.count",)),
    "factor": Option(
        "map the features to dim / factor as they are made, and keep only that",
        ("extract.factor",),
    ),
    "kind": Option("kind of that map: one drawn from a seed", ("extract.kind",)),
    "seed": Option("seed of that map and of the views", ("extract.seed", "views.seed")),
}
PROJECT = {
    "dtype": Option("float32 or float16, of the projected rows", ("project.dtype",)),
    "seed": Option("seed of the map; repeatable", ("project.seeds",)),
    "factor": Option(
        "compression factor dim_in / dim_out, repeatable; auto asks the sweep", ("project.factors",)
    ),
    "tolerance": Option("accuracy that --factor auto may lose", ("sweep.tolerance",)),
}
STUDENT = {
    "factor": Option("which projected store to learn from, by its factor", ("student.factor",)),
    "kind": Option("which projected store to learn from, by its kind", ("project.kind",)),
    "image_size": Option("pixels a side; 0 takes the teacher's", ("student.image_size",)),
    "views": Option("views of each example to learn; -1: all that are stored", ("student.views",)),
    "epochs": Option("passes over the training examples", ("student.epochs",)),
    "batch_size": Option("examples a batch", ("student.batch_size",)),
    "learning_rate": Option("highest learning rate", ("student.learning_rate",)),
    "seed": Option("seed of initial weights and order", ("student.seed",)),
}
COMPARE = {
    **{name: STUDENT[name] for name in ("factor", "kind", "image_size", "views", "epochs")},
    "seeds": Option("fresh seeds of each finalist", ("compare.seeds",)),
}
NEST = {
    "student": Option("a trained student of the run, in place of its teacher", ("nest.student",)),
    "name": Option("name of the result in the folder nested", ("nest.name",)),
    "include": Option(
        "layers to nest, with commas: mlp, attention, head, embedding, convolution, all, or "
        "patterns of names; those after ! not",
        ("nest.include",),
    ),
    "rank": Option("largest rank of a layer: 64, a share like 0.5, or full", ("nest.rank",)),
    "init": Option("how factors begin: whitened or svd", ("nest.init",)),
    "calibration": Option("training examples that it is calibrated on", ("nest.calibration",)),
    "points": Option("points of its path that are taught", ("nest.points",)),
    "budgets": Option(
        "shares of dense FLOPs to teach beside those points, with commas", ("nest.budgets",)
    ),
    "ranks": Option("ranks to teach, of all layers alike; else a path finds them", ("nest.ranks",)),
    "floor": Option("smallest budget; 0: as far as ranks go", ("nest.floor",)),
    "own_biases": Option("give each rank that is taught biases of its own", ("nest.own_biases",)),
    "gauges": Option("let layers run in gauge form: fewer FLOPs, more time", ("nest.gauges",)),
    "targets": Option(
        "labels, or projected: the stored rows that the student learned", ("nest.targets",)
    ),
    "weighing": Option("of ranks: equal, uncertainty, clamped or log-sum", ("nest.weighing",)),
    "sampling": Option("of ranks: sandwich, uniform, widening or every", ("nest.sampling",)),
    "distill": Option("what lower ranks learn from: none, anchor or dense", ("nest.distill",)),
    "kl_weight": Option("weight of that distillation", ("nest.kl_weight",)),
    "hint_weight": Option(
        "weight of learning what the dense network's layers give on the way", ("nest.hint_weight",)
    ),
    "augment": Option("a new view of every example each epoch, of this kind", ("nest.augment",)),
    "mix": Option(
        "join each view with another example's: none, mixup or cutmix; no labels then",
        ("nest.mix",),
    ),
    "epochs": Option("passes over the training examples", ("nest.epochs",)),
    "batch_size": Option("examples a batch", ("nest.batch_size",)),
    "learning_rate": Option("highest learning rate", ("nest.learning_rate",)),
    "precision": Option("auto, float32, bfloat16 or float16", ("nest.precision",)),
    "seed": Option("seed of calibration, order and drawn ranks", ("nest.seed",)),
}
FRONTIER = {
    "student": Option("the student that was nested, in place of the teacher", ("nest.student",)),
    "name": Option("the nested network, by its name in the folder nested", ("nest.name",)),
    "include": Option("layers that were nested, as nest was told", ("nest.include",)),
    "rivals": Option(
        "svd, whitened, one-rank, width, half, longer, with commas; '' for none",
        ("frontier.rivals",),
    ),
    "budgets": Option(
        "shares of dense FLOPs that are measured in any case, with commas", ("frontier.budgets",)
    ),
    "points": Option("budgets of a network that has several, at least", ("frontier.points",)),
    "seeds": Option("seeds of the nested network, the run's own among them", ("frontier.seeds",)),
    "rival_seeds": Option("seeds of the rivals width, half and longer", ("frontier.rival_seeds",)),
    "rank_networks": Option(
        "budgets at which one-rank teaches a network of its own", ("frontier.rank_networks",)
    ),
    "tolerance": Option(
        "accuracy that the budget picked may lose, as a share", ("frontier.tolerance",)
    ),
    "repeats": Option("rounds of timed calls; 0 times nothing", ("frontier.repeats",)),
}
LANGUAGE = {
    **FRONTIER,
    **NEST,
    "budgets": FRONTIER["budgets"],
    "model": Option("a causal language model: a folder, or a hub name", ("language.model",)),
    "data": Option("texts or token ids: parquet:FILES, json:FILES, a hub name", ("data.name",)),
    "tokens": Option("tokens of a window", ("language.tokens",)),
    "label_weight": Option("weight of the next tokens themselves", ("language.label_weight",)),
    "calibration": Option("training windows that it is calibrated on", ("nest.calibration",)),
    "epochs": Option("passes over the training windows", ("nest.epochs",)),
    "batch_size": Option("windows a batch", ("nest.batch_size",)),
    "tolerance": Option("share by which perplexity may rise", ("frontier.tolerance",)),
}
RUN = {
    "epochs": Option("passes of the student over the training examples", ("student.epochs",)),
    "seed": Option(
        "one seed for everything that is drawn",
        ("teacher.seed", "teach.seed", "project.seeds", "student.seed"),
    ),
}
SPECIAL = {
    "run": RUN,
    "train_teacher": TEACH,
    "extract": EXTRACT,
    "project": PROJECT,
    "train_student": STUDENT,
    "compare_students": COMPARE,
    "frontier": FRONTIER,
    "nest": NEST,
    "nest_lm": LANGUAGE,
}
