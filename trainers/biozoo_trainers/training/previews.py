"""What a hook may do with the network between epochs: predict an image as the package would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel, ImageLike

    from ..network import Differentiable
    from ..recipe import Recipe

__all__ = ["previewer"]


def previewer(
    package: ModelPackage,
    recipe: Recipe,
    network: Differentiable,
    device: str,
    channel: Channel | None,
) -> tuple[Callable[..., xr.DataArray], Callable[[xr.DataArray], xr.DataArray]]:
    """`Preview.predict` and `Preview.labels` of a network in training."""
    from ..network import runner_of

    def predict(
        image: ImageLike,
        *,
        axes: str | Sequence[str] | None = None,
        channel: Channel | None = channel,
    ) -> xr.DataArray:
        with runner_of(package, network.network, device=device) as runner:
            return runner(image, axes=axes, channel=channel)[recipe.output]

    def labels(maps: xr.DataArray) -> xr.DataArray:
        import xarray as xr

        from biozoo_runners.instances import instances

        from ..rules import rule_of
        from ..targets.base import make_target

        assert recipe.target is not None
        target = make_target(recipe.target.kind, recipe.target.options)
        rule = rule_of(package, recipe, target)
        if rule is not None:
            return instances(maps.drop_vars("channel", errors="ignore"), rule)
        spatial = [str(d) for d in maps.dims if d != "channel"]
        made = target.decode(maps.transpose("channel", *spatial).values)
        dims = spatial if made.ndim == len(spatial) else ["channel", *spatial]
        return xr.DataArray(made, dims=dims, attrs=maps.attrs)

    return predict, labels
