"""The ways to teach one network: the subspace's rows, labels only, or the teacher's logits.

All start from the same weights of the same seed and learn from the same rows in the same order;
they differ in what they are compared with. Those without a space of k numbers classify what the
body gives by itself, so that all of them, folded, are the same network. A new way is a function
and a line in ``METHODS``.
"""

from distill.desk import Desk, Method, Pupil
from distill.objectives import OBJECTIVE, subspace
from students import Classifier, LabelLoss, LogitLoss


def labels(desk: Desk) -> Pupil:
    """Cross-entropy through a fresh head: what the network learns without a teacher."""
    train, student = desk.train.labelled, classifier(desk)
    return Pupil(
        network=student,
        student=student,
        targets={"labels": train.take_labels()},
        loss=LabelLoss(),
        material=train,
    )


def logits(desk: Desk) -> Pupil:
    """Hinton's distillation from the full head's logits, T² KL + CE, through a fresh head."""
    student = classifier(desk)
    targets = {
        "logits": desk.train.take_logits(desk.lesson.full_head),
        "labels": desk.train.take_labels(),
    }
    loss = LogitLoss(temperature=desk.settings.temperature)
    return Pupil(network=student, student=student, targets=targets, loss=loss)


def classifier(desk: Desk) -> Classifier:
    """The body with a fresh head on its own numbers."""
    encoder = desk.encoder(0)
    return Classifier(encoder, desk.head(encoder.dim_out))


METHODS = {
    "subspace": Method(make=subspace, settings=OBJECTIVE, targets=True, in_space=True),
    "labels": Method(make=labels),
    "logits": Method(make=logits, settings=("temperature",), features=True),
}
