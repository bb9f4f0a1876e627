"""What the targets for numbered objects share: channels that `biozoo_runners.instances` decodes.

The channels mean what they mean in the built-in models: the foreground is any object, the distance
is 0 at an object's edge and 1 in its middle, the boundary is where two objects meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from biozoo.errors import UsageError

from ..labels import as_labels
from . import maps
from .base import Activation, Encoded, LossTerm, Target, check_channels, without_margin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.instances import InstancesConfig

__all__ = ["ROLES", "ObjectMaps"]

ROLES = ("foreground", "background", "distance", "boundary")
Boundary = Literal["between", "outline"]

#: Pixels along each axis of the neighbourhood that holds both objects of a boundary, and of the
#: one in which the gap between two objects counts more.
BOUNDARY_WINDOW, GAP_WINDOW = 5, 9
#: How much more the gap between two objects counts than other pixels: missed, they merge.
GAP_WEIGHT = 2.0
#: An object of this many pixels across counts 1 where small objects count more than large ones.
USUAL_ACROSS = 20.0
SMALL_LIMITS = (0.7, 3.0)


class ObjectMaps(Target):
    """Objects as maps of foreground, distance to their edge, and boundary.

    Parameters
    ----------
    channels
        What each output channel is, in order: of "foreground", "background" (its opposite),
        "distance" and "boundary". The kind's own without it.
    boundary
        "between": pixels with two different objects within 5 pixels, as in nuclei-fluo.
        "outline": the two-pixel line around every object, as most published boundary models have.
    full_distance
        Pixels from the edge at which the distance is 1; without it, and in smaller objects, that
        is the object's own middle.
    largest
        Pixels across the largest object expected: the context that `reach` promises.
    decoding
        Fields of ``config.biozoo.instances`` that differ from the kind's own, as
        ``{"seed_threshold": 0.6}``; no channels.

    Raises
    ------
    UsageError
        If an option is not one of those.
    """

    supplies = "instances"
    #: Channels of the kind, how it decodes, and how its boundary is drawn.
    roles: ClassVar[tuple[str, ...]]
    rule: ClassVar[Mapping[str, Any]] = {"min_seed_size": 4, "min_size": 4}
    drawn: ClassVar[Boundary] = "between"

    def __init__(
        self,
        *,
        channels: Sequence[str] | None = None,
        boundary: Boundary | None = None,
        full_distance: float | None = None,
        largest: int = 64,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        self.roles_used = tuple(channels) if channels is not None else self.roles
        self.boundary: Boundary = boundary if boundary is not None else self.drawn
        self.full_distance = full_distance
        self.largest = largest
        self.decoding = dict(decoding or {})
        self._check()

    def _check(self) -> None:
        used = self.roles_used
        if not used or len(set(used)) < len(used) or (wrong := set(used) - set(ROLES)):
            wrong = set(used) - set(ROLES)
            listed = ", ".join(map(repr, sorted(wrong) or used)) or "none"
            raise UsageError(
                f"Target '{self.name}' cannot make the channels {listed}. "
                f"Expected each once, of: {', '.join(ROLES)}."
            )
        if not {"foreground", "background", "boundary"} & set(used):
            raise UsageError(
                f"Target '{self.name}': a distance alone does not tell where objects end. "
                "Add the channel 'foreground'."
            )
        if self.boundary not in ("between", "outline"):
            raise UsageError(
                f"Target '{self.name}' has no boundary {self.boundary!r}. "
                "Expected 'between' or 'outline'."
            )
        if self.full_distance is not None and not self.full_distance >= 1:
            raise UsageError(
                f"Target '{self.name}': full_distance is {self.full_distance}. "
                "Expected at least 1 pixel."
            )
        self._config("output", self.roles_used)

    # ---------------------------------------------------------------------------- what it promises

    @property
    def activation(self) -> Activation:
        """Each channel is between 0 and 1 on its own."""
        return "sigmoid"

    @property
    def reach(self) -> int:
        """Whole objects, and the gap's neighbourhood."""
        return max(GAP_WINDOW // 2, self.largest)

    def needs(self, labels: NDArray[Any]) -> int:
        """As `reach`, for the largest object that these labels have."""
        return max(GAP_WINDOW // 2, maps.largest_extent(as_labels(labels)))

    def channels(self, ndim: int) -> tuple[str, ...]:
        """What each channel is, the same in 2D and 3D."""
        return self.roles_used

    # ---------------------------------------------------------------------------------- to channels

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """Maps of the objects.

        Small objects and the gaps between objects count more, else they are lost first. An ignored
        pixel has the weight 0 in all channels; a distance also in every object beside an ignored
        pixel, and a boundary also near one, unless it is there whatever the ignored pixel is.
        """
        return self.encode_inside(labels, image, 0)

    def encode_inside(
        self, labels: NDArray[Any], image: NDArray[Any] | None, margin: int
    ) -> Encoded:
        """As `encode`; what looks at neighbours only is made with as much of the margin as that."""
        labels = as_labels(labels)
        ndim, reach = labels.ndim, min(margin, GAP_WINDOW // 2)
        near = without_margin(labels, margin - reach, ndim)
        known = without_margin(near, reach, ndim) >= 0
        gap = without_margin(maps.two_objects_within(near, GAP_WINDOW), reach, ndim)
        small = without_margin(self._small(labels), margin, ndim)
        usual = np.where(known, small + np.float32(GAP_WEIGHT) * gap, np.float32(0))
        target = np.empty((len(self.roles_used), *known.shape), np.float32)
        weight = np.empty_like(target)
        for n, role in enumerate(self.roles_used):
            local = role == "boundary" and self._is_local
            made = self._channel(role, near if local else labels)
            value, more, sure = (without_margin(a, reach if local else margin, ndim) for a in made)
            target[n] = value
            weight[n] = usual * more * sure
        target[:, ~known] = 0
        return Encoded(target, weight)

    def _channel(
        self, role: str, labels: NDArray[np.int32]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
        """Value, emphasis, and where both are known."""
        everywhere = np.ones(labels.shape, bool)
        if role in ("foreground", "background"):
            filled = self._inside(labels)
            return (filled if role == "foreground" else ~filled), everywhere, everywhere
        if role == "distance":
            emphasis = np.where(labels > 0, np.float32(2), np.float32(1))
            return self._distance(labels), emphasis, ~maps.touching_unknown(labels)
        if self.boundary == "between":
            value = maps.two_objects_within(labels, BOUNDARY_WINDOW)
            near = maps.near_unknown(labels, BOUNDARY_WINDOW)
        else:
            value, near = maps.outlines(labels), maps.near_unknown(labels, 3)
        if "distance" not in self.roles_used:  # nothing else tells of the smallest objects
            value = maps.with_core(value, labels)
        return value, np.where(value, np.float32(2), np.float32(1)), value | ~near

    def _inside(self, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        return labels > 0

    def _distance(self, labels: NDArray[np.int32]) -> NDArray[np.float32]:
        distance, full = maps.edge_distance(labels)
        if self.full_distance is not None:
            full = np.minimum(full, np.float32(self.full_distance))
        scaled: NDArray[np.float32] = np.minimum(distance / full, np.float32(1))
        return scaled

    def _small(self, labels: NDArray[np.int32]) -> NDArray[np.float32]:
        """How much each pixel counts for the size of its object: 1 outside of all."""
        numbers, n = maps.numbered(labels)
        across = np.bincount(numbers.ravel(), minlength=n + 1) ** (1 / labels.ndim)
        factor = np.clip(USUAL_ACROSS / np.maximum(across, 1.0), *SMALL_LIMITS)
        factor[0] = 1.0
        counts: NDArray[np.float32] = factor.astype(np.float32)[numbers]
        return counts

    # -------------------------------------------------------------------------------- from channels

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """Objects as `zoo run` makes them, with the rule of `instances`."""
        check_channels(maps, self.roles_used, self.name)
        from biozoo_runners.instances import label_objects

        by_role = dict(zip(self.roles_used, maps, strict=True))
        if "foreground" not in by_role:
            # Of an outline alone, every side is an object: the outside is numbered like one.
            by_role["foreground"] = (
                1 - by_role["background"]
                if "background" in by_role
                else np.ones(maps.shape[1:], np.float32)
            )
        config = self._config("output", tuple(by_role))
        fields = ("foreground", "distance", "boundary")
        refs = {f: getattr(config, f) for f in fields}
        chosen = {f: by_role[str(r)] for f, r in refs.items() if r is not None}
        settings = config.model_dump(exclude={"output", *fields})
        labels: NDArray[np.int32] = label_objects(**chosen, **settings)
        return labels

    def instances(self, output_id: str, channel_names: Sequence[str]) -> dict[str, Any] | None:
        """The rule of this kind; None where no channel is the foreground."""
        if "foreground" not in self.roles_used:
            return None
        if len(channel_names) != len(self.roles_used):
            raise UsageError(
                f"Target '{self.name}' has {len(self.roles_used)} channels, "
                f"{len(channel_names)} names were given: {', '.join(channel_names)}."
            )
        name_of = dict(zip(self.roles_used, channel_names, strict=True))
        entry = self._config(output_id, self.roles_used).model_dump(exclude_none=True)
        for field in ("foreground", "distance", "boundary"):
            if field in entry:
                entry[field] = name_of[entry[field]]
        return entry

    def _config(self, output_id: str, roles: Sequence[str]) -> InstancesConfig:
        """How objects are made, channels being named by their roles."""
        from pydantic import ValidationError

        from biozoo_runners.instances import InstancesConfig

        core: dict[str, str] = {
            r: r for r in ("distance", "boundary") if r in roles and r in self.core_roles
        }
        if not core:  # connected parts: the foreground is its own core
            core["distance"] = "foreground"
        values: dict[str, Any] = {
            "output": output_id,
            "foreground": "foreground",
            **core,
            **self.rule,
        }
        try:
            return InstancesConfig.model_validate(values | self.decoding)
        except ValidationError as exc:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in exc.errors())
            raise UsageError(
                f"Target '{self.name}': decoding {self.decoding} cannot be used: {faults}. "
                "Expected fields of config.biozoo.instances."
            ) from exc

    @property
    def _is_local(self) -> bool:
        """Whether a boundary follows from the pixels around it alone."""
        return self.boundary == "between" and "distance" in self.roles_used

    @property
    def core_roles(self) -> tuple[str, ...]:
        """The channels that tell objects apart, of those that there are."""
        return ("distance",) if "distance" in self.roles_used else ("boundary",)

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """Cross-entropy for each channel, and Dice for those that are yes or no.

        The distance is a soft target of a cross-entropy, as the object probability of StarDist
        (Schmidt et al. 2018). The factors are those that the built-in models were trained with.
        """
        entropy = {"foreground": 1.0, "background": 1.0, "distance": 1.5, "boundary": 0.5}
        overlap = {"foreground": 0.5, "background": 0.5, "boundary": 0.25}
        single = len(self.roles_used) == 1
        terms = [
            LossTerm("bce", 1.0 if single else entropy[role], (i,))
            for i, role in enumerate(self.roles_used)
        ]
        terms += [
            LossTerm("dice", overlap[role], (i,))
            for i, role in enumerate(self.roles_used)
            if role in overlap
        ]
        return tuple(terms)
