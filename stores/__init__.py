"""Features on disk: zarr v3 groups that are finished, checked and say what made them.

The front door: everything another package may use is here.
"""

from stores.errors import (
    IncompleteStoreError,
    InvalidRowsError,
    MissingStoreError,
    SpecError,
    StoreDamagedError,
    StoreError,
    StoreLockedError,
    StoreMismatchError,
)
from stores.reader import Chunk, FeatureStore, open_splits, open_store, recorded_spec
from stores.shuffle import Batch, shuffled_batches
from stores.spec import StoreSpec, default_chunk_rows, even_chunk_rows
from stores.verify import Damage, Verification, repair_store, verify_splits, verify_store
from stores.writer import StoreWriter, create_store

__all__ = [
    "Batch",
    "Chunk",
    "Damage",
    "FeatureStore",
    "IncompleteStoreError",
    "InvalidRowsError",
    "MissingStoreError",
    "SpecError",
    "StoreDamagedError",
    "StoreError",
    "StoreLockedError",
    "StoreMismatchError",
    "StoreSpec",
    "StoreWriter",
    "Verification",
    "create_store",
    "default_chunk_rows",
    "even_chunk_rows",
    "open_splits",
    "open_store",
    "recorded_spec",
    "repair_store",
    "shuffled_batches",
    "verify_splits",
    "verify_store",
]
