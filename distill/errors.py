"""What a stage says when what it was handed cannot be worked on."""


class StageError(ValueError):
    """The stores or settings do not allow this stage; the message is one line for the user."""
