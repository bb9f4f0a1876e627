"""One run of a training, from the beginning or a checkpoint to its end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch

from biozoo.errors import BackendError, OutOfMemoryError
from biozoo_runners.base import ran_out_of_memory

from ..hooks import Checkpoint, Hooks, Preview, Start, Step
from ..patches import Batch, Patches
from . import checkpoint as checkpoints
from .average import Average
from .checkpoint import State
from .feed import Feed
from .freezing import chosen_parameters, keep_statistics
from .job import Job, Made
from .material import Material
from .options import Epoch, Outcome
from .plan import identity, smaller
from .polarity import better_inverted, inverted
from .previews import previewer
from .tensors import cropped, optimiser_of, put, size_text, tensors_of

__all__ = ["Session"]

#: So many steps in a row whose loss is no number end the training.
MOST_ODD = 10

#: By how much an earlier epoch must be better than a later one to be called so, and in decibel.
#: Few images are looked at: what lies within this is chance, and more training is the safer choice.
CLEARLY_BETTER, CLEARLY_BETTER_DB = 0.05, 0.5


class Session:
    """One run of a training, from the beginning or from a checkpoint to its end."""

    def __init__(self, fabric: Any, job: Job) -> None:
        self.fabric = fabric
        self.job = replace(job, hooks=Hooks()) if fabric.global_rank else job
        self.module = job.network.module
        self.pivot: float | None = None
        self._works_with(Material.of(job))
        self.identity = identity(job.package, job.recipe, job.pairs, job.options, self.plan)
        self.notes: list[str] = [*job.network.notes, *self.material.notes]
        self.step = 0
        self.history: list[Epoch] = []
        self.best: dict[str, Any] | None = None
        self.sums: dict[str, float] = {}
        self.count = 0
        self.feed: Feed | None = None
        self._before, self._began = 0.0, time.perf_counter()
        self._odd = 0

    def _works_with(self, material: Material) -> None:
        self.material, self.plan = material, material.plan
        self.patches, self.objective = material.patches, material.objective

    def _start(self) -> State | None:
        """What the checkpoint holds, or the better of the images and their negative."""
        state = checkpoints.read(self.job.folder, self.identity) if self.job.resume else None
        if state is None:
            self._choose_polarity()
            return None
        if state.pivot is not None:
            self._invert(state.pivot)
        put(self.module, state.module)
        self.notes = list(state.notes)
        self.history = list(state.history)
        self.best = dict(state.best) if state.best is not None else None
        self.sums, self.count = dict(state.sums), state.count
        self.step, self._before = state.step, state.seconds
        self.plan = replace(self.plan, batch=state.batch, size=dict(state.size))
        self.patches.resized(self.plan.size)
        return state

    def _choose_polarity(self) -> None:
        recipe, supplies = self.job.recipe, self.patches.target.supplies
        if recipe.polarity != "auto" or supplies not in ("instances", "classes"):
            return
        plain = Patches(recipe, self.patches.items, self.plan.size, self.plan.seed, augment=False)
        self.module.eval()
        batches = [plain.batch(n, min(4, self.plan.batch)) for n in range(3)]
        found = better_inverted(self.module, batches, self._loss_of)
        if found is None:
            return
        self._invert(found.value)
        self.notes.append(
            "your images are the negative of what the model knows: they are inverted before the "
            f"network sees them, in the new package too (loss at the start {found.inverted:.2f} "
            f"in place of {found.as_is:.2f})"
        )

    def _invert(self, pivot: float) -> None:
        """Show the network the negative of all images from here on."""
        self.pivot = pivot
        package = inverted(self.job.package, self.job.recipe.input, pivot, self.job.folder)
        self.job = replace(self.job, package=package)
        self._works_with(Material.of(self.job))

    def _loss_of(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        made: torch.Tensor = self.objective(logits, cropped(batch, logits))
        return made

    # ----------------------------------------------------------------------------------------- run

    def run(self) -> Made:
        """Train to the end, or until it is stopped."""
        state = self._start()
        sample = torch.zeros((1, *self.patches.patch(0, 0, 1).image.shape))
        own = self.job.recipe.optimiser
        parameters = chosen_parameters(self.module, self.job.recipe, sample)
        optimiser = optimiser_of(own.kind, parameters, self.plan.learning_rate, own.weight_decay)
        model, wrapped = self.fabric.setup(self.module, optimiser)
        self.objective = self.objective.to(self.fabric.device)
        average = Average(self.module, own.average)
        if state is not None:
            optimiser.load_state_dict(dict(state.optimiser))
            average.load(state.average)
        self._began = time.perf_counter()
        self._tell_start()
        if state is not None and state.outcome:  # it had come to its end
            return self._made(average, state.outcome)  # type: ignore[arg-type]
        self.feed = self._feed()
        outcome: Outcome = "done"
        while self.step < self.plan.steps:
            if not self._goes_on():
                outcome = "cancelled"
                self._keep(optimiser, average, "")
                break
            self._step(model, wrapped, average, own.clip)
            if self.step % self.plan.epoch and self.step < self.plan.steps:
                continue
            better = self._look(average)
            ended = self._became_worse()
            last = self.step >= self.plan.steps
            self._keep(optimiser, average, "done" if last else "early" if ended else "", better)
            if ended and not last:
                outcome = "early"
                break
        return self._made(average, outcome)

    def _goes_on(self) -> bool:
        paused = time.perf_counter()
        control = self.job.control
        goes_on = control.wait() if self.fabric.is_global_zero else True
        self._began += time.perf_counter() - paused  # a pause is no training
        if self.fabric.world_size > 1:
            goes_on = self.fabric.broadcast(goes_on)
        return goes_on

    def _step(self, model: Any, optimiser: Any, average: Average, clip: float) -> None:
        """One step, with smaller patches or fewer of them where memory ends."""
        assert self.feed is not None
        while True:
            start = time.perf_counter()
            try:
                loss = self._try(model, optimiser, clip)
                break
            except Exception as exc:
                if not ran_out_of_memory(exc):
                    raise
                optimiser.zero_grad(set_to_none=True)
                self._shrink(exc)
        average.update()
        rate = self.plan.rate(self.step)
        self.step += 1
        parts = {n: float(v) for n, v in self.objective.parts.items()}
        for name, value in {"": loss, **parts}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if self.job.hooks:
            seconds = time.perf_counter() - start
            epoch = (self.step - 1) // self.plan.epoch + 1
            self.job.hooks.tell(Step(self.step, self.plan.steps, epoch, loss, parts, rate, seconds))

    def _feed(self) -> Feed:
        fabric = self.fabric
        return Feed(
            self.patches,
            self.plan.steps,
            fabric.global_rank,
            fabric.world_size,
            ahead=fabric.device.type != "cpu",
        )

    def _try(self, model: Any, optimiser: Any, clip: float) -> float:
        assert self.feed is not None
        # What a network draws itself (dropout) follows from the step alone, too.
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        batch = self.feed.get(self.step, self.plan.batch).to(self.fabric.device)
        model.train()
        if self.job.recipe.normalisation == "frozen":
            keep_statistics(self.module)
        for group in optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        optimiser.zero_grad(set_to_none=True)
        logits = model(batch.image).float()
        loss = self._loss_of(logits, batch)
        value = float(loss.detach())
        if value != value or value in (float("inf"), float("-inf")):
            self._odd += 1
            if self._odd >= MOST_ODD:
                raise BackendError(
                    f"The loss was no number in {self._odd} steps in a row. Use a lower learning "
                    f"rate than {self.plan.learning_rate:g}, and --precision 32-true."
                )
            return self.sums.get("", 0.0) / max(1, self.count)
        self._odd = 0
        self.fabric.backward(loss)
        self.fabric.clip_gradients(model, optimiser, max_norm=clip, error_if_nonfinite=False)
        optimiser.step()
        return value

    def _shrink(self, reason: BaseException) -> None:
        made = smaller(self.plan)
        if made is None or (self.material.exact and made.size != self.plan.size):
            raise OutOfMemoryError(
                f"One patch of {size_text(self.plan.size)} pixels does not fit in memory, and it "
                "cannot be smaller. Close other programs, or train on a machine with more memory."
            ) from reason
        self.notes.append(
            f"memory ended at step {self.step + 1}: {made.batch} patches of "
            f"{size_text(made.size)} in place of {self.plan.batch} of {size_text(self.plan.size)}"
        )
        self.plan = made
        self.patches.resized(made.size)
        if self.feed is not None:
            self.feed.close()
            self.feed = self._feed()
        if self.fabric.device.type == "cuda":
            torch.cuda.empty_cache()

    # ---------------------------------------------------------------------------------- epoch's end

    def _look(self, average: Average) -> bool:
        """The curves' next point; whether it is the best so far."""
        means = {n: v / max(1, self.count) for n, v in self.sums.items()}
        loss = means.pop("", float("nan"))
        self.sums, self.count = {}, 0
        with average.applied():
            score = None
            if self.fabric.is_global_zero:
                score = self.material.validation.score(self.module, self.fabric.device)
            if self.fabric.world_size > 1:
                score = self.fabric.broadcast(score)
            number = len(self.history) + 1
            rate = self.plan.rate(self.step - 1)
            self.history.append(Epoch(number, self.step, loss, score, rate, self.seconds, means))
            if self.job.hooks:
                self._preview(number, loss, score)
        better = score is not None and (self.best is None or score > self.best["score"])
        if better:
            values = {n: v.detach().cpu().clone() for n, v in average.values.items()}
            self.best = {"score": score, "step": self.step, "epoch": number, "values": values}
        return better

    def _preview(self, number: int, loss: float, score: float | None) -> None:
        device = str(self.fabric.device)
        predict, labels = previewer(
            self.job.package, self.job.recipe, self.job.network, device, self.job.channel
        )
        self.job.hooks.tell(
            Preview(number, self.step, self.plan.steps, loss, score, predict, labels)
        )

    def _became_worse(self) -> bool:
        patience = self.job.options.patience
        if not patience or self.best is None:
            return False
        looks = [e.score for e in self.history[-patience:] if e.score is not None]
        return len(looks) == patience and max(looks) < self.best["score"] - self._clearly

    @property
    def _clearly(self) -> float:
        return CLEARLY_BETTER_DB if self.material.metric == "PSNR" else CLEARLY_BETTER

    def _keep(self, optimiser: Any, average: Average, outcome: str, best: bool = False) -> None:
        if not self.fabric.is_global_zero:
            return
        path = checkpoints.write(
            self.job.folder,
            State(
                identity=self.identity,
                pivot=self.pivot,
                step=self.step,
                seconds=self.seconds,
                batch=self.plan.batch,
                size=dict(self.plan.size),
                module=tensors_of(self.module),
                average=average.state(),
                optimiser=optimiser.state_dict(),
                best=self.best,
                history=tuple(self.history),
                notes=tuple(self.notes),
                sums=self.sums,
                count=self.count,
                outcome=outcome,
            ),
        )
        self.job.hooks.tell(Checkpoint(path, self.step, best))

    # ----------------------------------------------------------------------------------------- end

    def _made(self, average: Average, outcome: Outcome) -> Made:
        values: dict[str, Any] = average.values
        seconds = self.seconds  # as in the checkpoint: choosing thresholds is no training
        notes = list(self.notes)
        last = next((e.score for e in reversed(self.history) if e.score is not None), None)
        if self.best is not None and (last is None or self.best["score"] > last + self._clearly):
            values = self.best["values"]
            if self.best["step"] != self.step:
                notes.append(
                    f"the weights are those of step {self.best['step']}, clearly better "
                    f"({self.material.metric} {self.best['score']:.2f}) than later ones"
                )
        if outcome == "early":
            notes.append(
                f"it ended at step {self.step} of {self.plan.steps}: the score had become worse"
            )
        put(self.module, values)
        rule = self.material.rule
        if self.fabric.is_global_zero and rule is not None:
            rule = self.material.tuning.tuned(self.module, self.fabric.device)
        return Made(
            {n: v.detach().cpu().clone() for n, v in values.items()},
            tuple(self.history),
            self.material.metric,
            outcome,
            self.step,
            seconds,
            tuple(dict.fromkeys(notes)),
            rule,
            self.pivot,
        )

    @property
    def seconds(self) -> float:
        """Of training so far, all parts added up."""
        return self._before + time.perf_counter() - self._began

    def _tell_start(self) -> None:
        self.job.hooks.tell(
            Start(
                model=self.job.package.id,
                steps=self.plan.steps,
                steps_per_epoch=self.plan.epoch,
                step=self.step,
                images=self.material.images,
                validation=self.material.aside,
                metric=self.material.metric,
                device=str(self.fabric.device),
                patch=dict(self.plan.size),
                batch=self.plan.batch,
                notes=tuple(self.notes),
            )
        )

    def close(self) -> None:
        """End the thread that makes patches."""
        if self.feed is not None:
            self.feed.close()
