"""The precisions that a person can ask for; imports nothing, as every run looks here."""

from __future__ import annotations

from biozoo.errors import UsageError

__all__ = ["AUTO", "FLOAT32", "PRECISIONS", "check_wish"]

AUTO, FLOAT32 = "auto", "float32"
PRECISIONS = (AUTO, FLOAT32, "bfloat16", "float16", "int8")


def check_wish(precision: str, tolerance: float | None) -> None:
    """Raise `UsageError` for a precision that does not exist, or a tolerance without a use."""
    if precision not in PRECISIONS:
        raise UsageError(
            f"No precision is called '{precision}'. Use {', '.join(PRECISIONS[:-1])} or "
            f"{PRECISIONS[-1]}."
        )
    if tolerance is None:
        return
    if precision == FLOAT32:
        raise UsageError(
            "A tolerance is for another precision than float32, which is run as it is. Ask for "
            "one: --precision auto, or leave --tolerance out."
        )
    if not 0 < tolerance < float("inf"):
        raise UsageError(
            f"A tolerance of {tolerance:g} cannot be used. Give the largest difference to accept, "
            "in units of the output, for example --tolerance 0.01."
        )
