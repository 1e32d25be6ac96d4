"""What can be wrong with a store, one class per thing a caller may handle; text is one line."""


class StoreError(ValueError):
    """Something is wrong with a store or with what is asked of it."""


class SpecError(StoreError):
    """A spec promises what no store can keep."""


class MissingStoreError(StoreError):
    """There is no store where one was looked for."""


class IncompleteStoreError(StoreError):
    """A store was begun and never finished: its rows are not data yet."""


class StoreMismatchError(StoreError):
    """A store was made by something other than what is asked for now; the text names both."""


class StoreDamagedError(StoreError):
    """A file of a store does not hold the bytes that were written to it."""


class StoreLockedError(StoreError):
    """Another process is writing this store."""


class InvalidRowsError(StoreError):
    """Rows that a store does not take; nothing of them was written."""
