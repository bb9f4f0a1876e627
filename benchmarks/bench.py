"""Collects budgets and prints them as they are measured."""

from __future__ import annotations


class Bench:
    """Prints one line per figure; `failed` once a budget is missed."""

    def __init__(self) -> None:
        self.failed = False

    def at_most(self, what: str, value: float, budget: float, unit: str, detail: str = "") -> None:
        """A budget that must not be exceeded."""
        self._line(what, value, f"at most {budget:g}{unit}", unit, value <= budget, detail)

    def at_least(self, what: str, value: float, budget: float, unit: str, detail: str = "") -> None:
        """A budget that must be reached."""
        self._line(what, value, f"at least {budget:g}{unit}", unit, value >= budget, detail)

    def tell(self, what: str, value: float, unit: str, detail: str = "") -> None:
        """A figure without a budget."""
        print(f"     {what}: {value:.2f}{unit}{'  ' + detail if detail else ''}", flush=True)

    def _line(self, what: str, value: float, budget: str, unit: str, ok: bool, detail: str) -> None:
        self.failed |= not ok
        verdict = "ok  " if ok else "MISS"
        print(
            f"{verdict} {what}: {value:.2f}{unit} ({budget}){'  ' + detail if detail else ''}",
            flush=True,
        )
