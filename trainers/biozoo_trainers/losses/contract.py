"""What every loss promises, as tests to inherit: see `biozoo_trainers.contract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from biozoo.errors import BiozooError

if TYPE_CHECKING:
    from torch import Tensor

    from .base import Loss

__all__ = ["LossContract"]


class LossContract:
    """Tests that every loss passes; see this module's docstring for how to inherit them.

    A subclass gives the fixture `loss`.
    """

    #: What the logits are: of a "probability", by a sigmoid or softmax, or the "value" itself.
    of: ClassVar[Literal["probability", "value"]] = "probability"

    def material(self) -> tuple[Tensor, Tensor, Tensor]:
        """Logits that are partly right, a target of two classes and a weight (2 2 12 12)."""
        import torch

        rng = torch.Generator().manual_seed(0)
        first = (torch.rand((2, 1, 12, 12), generator=rng) > 0.6).float()
        target = torch.cat((1 - first, first), 1)
        logits = target + 1.5 * torch.randn(target.shape, generator=rng)
        weight = torch.rand((2, 1, 12, 12), generator=rng) + 0.5
        weight[:, :, :5] = 0
        return logits, target, weight

    def right(self, target: Tensor) -> Tensor:
        """Logits that say the target."""
        return 12 * (2 * target - 1) if self.of == "probability" else target.clone()

    def wrong(self, target: Tensor) -> Tensor:
        """Logits that say the opposite, by far."""
        return self.right(1 - target) if self.of == "probability" else 5 * (1 - target)

    def test_it_gives_one_number_that_falls_where_it_leads(self, loss: Loss) -> None:
        """A scalar, finite; a small step along its slope makes it smaller."""
        logits, target, weight = self.material()
        logits.requires_grad_(True)
        value = loss(logits, target, weight)
        assert value.shape == ()
        assert value.isfinite()
        value.backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        step = 1e-2 / logits.grad.norm()
        assert loss(logits - step * logits.grad, target, weight) < value

    def test_the_right_answer_has_the_least_loss(self, loss: Loss) -> None:
        """Next to none for the target, more for something else, most for the opposite."""
        logits, target, weight = self.material()
        right = float(loss(self.right(target), target, weight))
        between = float(loss(logits, target, weight))
        wrong = float(loss(self.wrong(target), target, weight))
        assert right < 0.01
        assert right < between < wrong

    def test_ignored_pixels_are_ignored_exactly(self, loss: Loss) -> None:
        """Whatever stands there, NaN too: the same value, and a gradient of exactly 0."""
        import torch

        logits, target, weight = self.material()
        there = (weight == 0).expand_as(logits)
        expected = loss(logits, target, weight)
        for filling in (0.0, 1e4, -1e4, float("nan"), float("inf")):
            changed = torch.where(there, torch.tensor(filling), logits).requires_grad_(True)
            value = loss(changed, torch.where(there, torch.tensor(filling), target), weight)
            assert torch.equal(value, expected), f"{filling} where it is ignored changed the loss"
            value.backward()
            assert changed.grad is not None
            assert (changed.grad[there] == 0).all(), "a gradient where it is ignored"
            assert changed.grad[~there].isfinite().all()
            assert changed.grad[~there].any()

    def test_nothing_to_learn_from_is_no_loss(self, loss: Loss) -> None:
        """Weights that are all 0: the loss is 0, and so is its gradient."""
        logits, target, weight = self.material()
        logits.requires_grad_(True)
        value = loss(logits, target, 0 * weight)
        value.backward()
        assert value.item() == 0
        assert logits.grad is not None
        assert (logits.grad == 0).all()

    def test_weights_count_in_relation_to_each_other(self, loss: Loss) -> None:
        """Twice the weight everywhere is the same; one weight for all channels is that of each."""
        import torch

        logits, target, weight = self.material()
        value = loss(logits, target, weight)
        torch.testing.assert_close(loss(logits, target, 2 * weight), value)
        torch.testing.assert_close(loss(logits, target, weight.expand_as(logits)), value)

    def test_volumes_are_taken_as_planes_are(self, loss: Loss) -> None:
        """The same pixels with one more axis have the same loss."""
        import torch

        logits, target, weight = self.material()
        value = loss(logits, target, weight)
        deep = [a.reshape(*a.shape[:2], 3, 4, 12) for a in (logits, target, weight)]
        torch.testing.assert_close(loss(*deep), value)

    def test_half_precision_is_computed_in_full(self, loss: Loss) -> None:
        """Logits of a network in bfloat16 or float16 give a finite float32 number."""
        import torch

        logits, target, weight = self.material()
        for kind in (torch.bfloat16, torch.float16):
            half = (100 * logits).to(kind).requires_grad_(True)
            value = loss(half, target, weight)
            assert value.dtype == torch.float32
            assert value.isfinite()
            value.backward()
            assert half.grad is not None
            assert half.grad.isfinite().all()

    def test_shapes_that_do_not_belong_together_are_a_clear_error(self, loss: Loss) -> None:
        """No broadcasting by accident."""
        import pytest

        logits, target, weight = self.material()
        with pytest.raises(BiozooError, match="shape"):
            loss(logits, target[:, :1], weight)
        with pytest.raises(BiozooError, match="shape"):
            loss(logits, target, weight[:1])
