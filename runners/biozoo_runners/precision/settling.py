"""Which backend and precision a loaded model uses for an image: proven, timed, remembered.

The first image with a model on a machine pays for the whole proof: the test tensors and a few tiles
on every candidate. What was decided is remembered, and later images pay for one to three tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError, NoBackendError, PrecisionError

from ..kept_tiles import model_digest
from ..timing import interleaved
from ..tolerance import Tolerance, tolerance_for
from .candidates import Candidate, Here, candidate_of, find_candidates
from .cases import Case, Scene, Steps, test_case, tile_cases
from .proof import Proof, Reference, prove
from .remembered import Remembered, facts_of, recall, remember
from .wishes import AUTO, FLOAT32

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..base import Backend, BackendInfo
    from ..selection import Selection

__all__ = ["Decision", "Settler"]

#: Tiles that a candidate is proven on, the first time.
TILES = 3
#: Later images: one tile in so many, `TILES` at most.
EVERY = 32
#: With fewer tiles than this, "auto" stays with the reference: a tile's proof would cost more than
#: what is faster saves.
WORTHWHILE = 4
#: "auto" leaves the reference for what takes at most this part of its time: less is within what a
#: clock scatters.
FASTER = 0.95
#: Rounds of timing, and the seconds after which none begins.
ROUNDS, PATIENCE = 5, 3.0


@dataclass(frozen=True, slots=True)
class Decision:
    """What runs an image, and why.

    Attributes
    ----------
    asked, tolerance
        The wish; the tolerance is None where the package's own counts.
    ran
        The candidate in words: ``bfloat16 (onnx on openvino)``.
    precision
        "float32" where it is the weights' own.
    proofs
        Of this image, the candidates that were compared with the reference.
    seconds
        Of one tile, as a part of the reference's, by candidate, where "auto" timed them.
    remembered
        Whether an earlier proof was relied on and this image checked on a few tiles only.
    notes
        What a user should know.
    """

    asked: str
    tolerance: float | None
    ran: str
    precision: str
    proofs: tuple[Proof, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    remembered: bool = False
    notes: tuple[str, ...] = ()


class Settler:
    """Chooses for each image of one runner; holds no backend open."""

    def __init__(
        self,
        package: ModelPackage,
        here: Here,
        chosen: Selection,
        ran: BackendInfo,
        precision: str,
        tolerance: float | None,
    ) -> None:
        """Recall what was proven before, or list what can be.

        Parameters
        ----------
        chosen, ran
            What float32 runs, and what that backend says of itself: on its device, and with as many
            threads, runs every candidate.
        precision, tolerance
            As `check_wish` has accepted them; not "float32".

        Raises
        ------
        NoBackendError
            Nothing here computes in the asked precision; it lists why.
        """
        here = replace(here, wish=replace(here.wish, device=ran.device))
        reference = Candidate(replace(chosen, device=ran.device), FLOAT32)
        self._package, self._here, self._reference = package, here, reference
        self._asked, self._tolerance, self._threads = precision, tolerance, ran.threads
        self._current = reference
        asked = {
            "precision": precision,
            "tolerance": tolerance,
            "weights": here.wish.weights,
            "backend": here.wish.backend,
            "reference": reference.key,
            "trusted": here.trusted,
        }
        digest = model_digest(package)
        self._facts = facts_of(digest, here.machine, ran.device, ran.threads, asked)
        self._known = recall(self._facts)
        self._candidates: list[Candidate] = []
        self._chosen = reference
        if self._known is not None and self._known.choice is not None:
            again = candidate_of(package, here, self._known.choice)
            if again is None:  # a backend that was taken away
                self._known = None
            else:
                self._chosen = again
        if self._known is None:
            found, reasons = find_candidates(package, here, precision)
            self._candidates = [c for c in found if c.key != reference.key]
            if precision != AUTO and not self._candidates:
                raise NoBackendError(package=f"{package.id} in {precision}", reasons=reasons)

    def settle(self, backend: Backend, scene: Scene, steps: Steps) -> tuple[Backend, Decision]:
        """Choose for an image.

        Parameters
        ----------
        backend
            What the runner has open: of the last image, at first the reference.

        Returns
        -------
        Backend, Decision
            What is to run the image; the given one, or another one after that was closed.

        Raises
        ------
        PrecisionError
            The asked precision does not agree on this image. `backend` is still open.
        BackendError, OutOfMemoryError
            The reference itself fails.
        """
        if self._asked == AUTO and scene.tiles < WORTHWHILE:
            why = f"the image has {scene.tiles} tile(s), too few to be worth a proof"
            return self._take(backend, self._reference), self._decision(notes=(why,))
        if self._known is None:
            return self._prove_all(backend, scene, steps)
        return self._check(backend, scene, steps, self._known)

    # ---------------------------------------------------------------------------- the first time

    def _prove_all(self, backend: Backend, scene: Scene, steps: Steps) -> tuple[Backend, Decision]:
        """The whole proof, of all candidates; what comes of it is remembered."""
        tiles = tile_cases(scene, steps, TILES)
        allowed = self._allowed(steps)
        cases = [test_case(self._package, steps), *tiles]
        reference = self._compared_with(backend, cases, steps, allowed)
        proofs: list[Proof] = []
        seconds: dict[str, float] = {}
        best, shortest = self._reference, FASTER
        for candidate in self._candidates:
            try:
                with self._open(candidate) as opened:
                    proof = prove(str(candidate), candidate.precision, opened, reference)
                    if proof.ok and self._asked == AUTO:
                        seconds[str(candidate)] = _ratio(opened, backend, tiles[0])
            except BiozooError as exc:
                proof = Proof(str(candidate), candidate.precision, fault=exc.message)
            proofs.append(proof)
            if proof.ok and self._asked != AUTO:
                best = candidate
                break
            if seconds.get(str(candidate), 1.0) <= shortest:
                best, shortest = candidate, seconds[str(candidate)]
        if self._asked != AUTO and best is self._reference:
            raise self._refused(proofs)
        evidence = tuple(map(str, proofs))
        choice = None if best is self._reference else best.key
        self._known, self._chosen = Remembered(choice, allowed, evidence, seconds), best
        remember(self._facts, self._known)
        decision = self._decision(best, proofs, seconds, notes=_told(best, proofs, seconds))
        return self._take(backend, best), decision

    # ------------------------------------------------------------------------------ later images

    def _check(
        self, backend: Backend, scene: Scene, steps: Steps, known: Remembered
    ) -> tuple[Backend, Decision]:
        """A few tiles of this image on what was chosen before."""
        chosen = self._chosen
        if chosen is self._reference:
            why = "nothing that was proven on this machine is faster than the first choice"
            return self._take(backend, chosen), self._decision(remembered=True, notes=(why,))
        cases = tile_cases(scene, steps, min(TILES, ceil(scene.tiles / EVERY)))
        if self._current is self._reference:
            reference = self._compared_with(backend, cases, steps, known.allowed)
        else:
            with self._open(self._reference) as first:
                reference = self._compared_with(first, cases, steps, known.allowed)
        if self._current is chosen:
            proof = prove(str(chosen), chosen.precision, backend, reference)
        else:
            try:
                with self._open(chosen) as opened:
                    proof = prove(str(chosen), chosen.precision, opened, reference)
            except BiozooError as exc:
                proof = Proof(str(chosen), chosen.precision, fault=exc.message)
        if proof.ok:
            notes = _told(chosen, [proof], known.seconds)
            decision = self._decision(chosen, [proof], known.seconds, notes, remembered=True)
            return self._take(backend, chosen), decision
        if self._asked != AUTO:
            raise self._refused([proof])
        note = f"float32 is used, as another way does not agree on this image: {proof}"
        decision = self._decision(proofs=[proof], remembered=True, notes=(note,))
        return self._take(backend, self._reference), decision

    # ------------------------------------------------------------------------------------- parts

    def _open(self, candidate: Candidate) -> Backend:
        return candidate.open(self._package, self._threads)

    def _allowed(self, steps: Steps) -> dict[str, Tolerance]:
        """How far each output may be from the reference."""
        if self._tolerance is not None:
            return {o: Tolerance(0.0, self._tolerance, 0.0) for o in steps.dims}
        weights = self._reference.selection.weights_format
        return {o: tolerance_for(self._package.descr, weights, o) for o in steps.dims}

    def _compared_with(
        self,
        backend: Backend,
        cases: Sequence[Case],
        steps: Steps,
        allowed: Mapping[str, Tolerance],
    ) -> Reference:
        return Reference(backend, cases, steps, allowed, keep_objects=self._tolerance is None)

    def _take(self, backend: Backend, candidate: Candidate) -> Backend:
        """`candidate` open, `backend` closed where it is another one."""
        if candidate is self._current:
            return backend
        opened = self._open(candidate)
        backend.close()
        self._current = candidate
        return opened

    def _decision(
        self,
        chosen: Candidate | None = None,
        proofs: Sequence[Proof] = (),
        seconds: Mapping[str, float] | None = None,
        notes: tuple[str, ...] = (),
        *,
        remembered: bool = False,
    ) -> Decision:
        taken = chosen or self._reference
        return Decision(
            asked=self._asked,
            tolerance=self._tolerance,
            ran=str(taken),
            precision=taken.precision,
            proofs=tuple(proofs),
            seconds=dict(seconds or {}),
            remembered=remembered,
            notes=notes,
        )

    def _refused(self, proofs: Sequence[Proof]) -> PrecisionError:
        return PrecisionError(
            model=self._package.id,
            precision=self._asked,
            measured=[str(p) for p in proofs],
            error=min((p.absolute_error for p in proofs if not p.fault), default=None),
        )


def _ratio(candidate: Backend, reference: Backend, tile: Case) -> float:
    """Seconds of a tile on a candidate by those on the reference, in turn."""
    calls: dict[str, Callable[[], object]] = {
        "candidate": partial(candidate.run, tile.feed),
        "reference": partial(reference.run, tile.feed),
    }
    seconds = interleaved(calls, rounds=ROUNDS, patience=PATIENCE)
    return seconds["candidate"] / seconds["reference"]


def _told(
    chosen: Candidate, proofs: Sequence[Proof], seconds: Mapping[str, float]
) -> tuple[str, ...]:
    """The choice in words."""
    proof = next((p for p in proofs if p.candidate == str(chosen)), None)
    if proof is None:
        others = "; ".join(map(str, proofs)) or "nothing else can run here"
        return (f"the first choice is used: nothing that agrees is faster. {others}",)
    time = seconds.get(str(chosen))
    took = "" if time is None else f", a tile takes {time:.2f} of the first choice's time"
    return (f"{proof}{took}",)
