"""How many threads NumPy's and SciPy's BLAS may use."""

from threadpoolctl import threadpool_info


def blas_threads() -> list[int]:
    """Of the libraries that NumPy and SciPy call: faiss's own, on OpenMP, counts by thread."""
    found = threadpool_info()
    return [
        library["num_threads"]
        for library in found
        if library["user_api"] == "blas" and library.get("threading_layer") != "openmp"
    ]
