"""Another name of ``distill.preflight``, whose ``doctor`` is the command's function."""

from distill.preflight import doctor

__all__ = ["doctor"]
