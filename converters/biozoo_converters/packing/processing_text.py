"""Pre- and postprocessing as an author types it, as steps of the specification.

``scale_range:min_percentile=1,max_percentile=99.8`` is the same as
``{id: scale_range, kwargs: {min_percentile: 1, max_percentile: 99.8}}``. Axes that a step needs and
that are not given become all axes but the batch: statistics are those of one image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from biozoo.axes import LETTERS, parse_axes
from biozoo.errors import AxesError, closest

__all__ = ["Side", "check_steps", "is_float_out", "parse_step", "with_axes"]

Side = Literal["preprocessing", "postprocessing"]

#: What people say for a step.
_SPOKEN = {
    "zscore": "zero_mean_unit_variance",
    "z-score": "zero_mean_unit_variance",
    "standardize": "zero_mean_unit_variance",
    "normalize": "zero_mean_unit_variance",
    "minmax": "scale_range",
    "min-max": "scale_range",
    "percentile": "scale_range",
    "percentiles": "scale_range",
    "rescale": "scale_linear",
    "threshold": "binarize",
    "cast": "ensure_dtype",
    "dtype": "ensure_dtype",
    "expit": "sigmoid",
}

#: Steps whose statistics are of axes.
_OVER_AXES = ("zero_mean_unit_variance", "scale_range", "scale_mean_variance")
#: Steps along one axis: the channels unless another is named.
_ALONG = ("softmax",)
#: Steps whose parameters may differ along one axis.
_PER_AXIS = ("binarize", "scale_linear", "fixed_zero_mean_unit_variance")


def parse_step(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """A step as the specification's mapping; what it holds is not checked.

    Raises
    ------
    ValueError
        It is neither a name with arguments nor such a mapping.
    """
    if isinstance(value, Mapping):
        step = dict(value)
        if "id" not in step:
            if len(step) != 1:
                raise ValueError("a step needs an id, for example {id: sigmoid}")
            (name, kwargs), *_ = step.items()  # {scale_range: {min_percentile: 1}}
            step = {"id": name, "kwargs": kwargs or {}}
        if not isinstance(step.get("kwargs", {}), Mapping):
            raise ValueError("the kwargs of a step are a mapping, for example {eps: 1e-6}")
        return {**step, "id": str(step["id"]), "kwargs": dict(step.get("kwargs") or {})}
    import yaml

    name, colon, rest = value.strip().partition(":")
    arguments: dict[str, Any] = {}
    for part in _parts(rest) if colon else ():
        key, equals, text = part.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"'{part}' of '{value}' is not NAME=VALUE")
        try:
            arguments[key.strip()] = number(yaml.safe_load(text))
        except yaml.YAMLError as exc:
            raise ValueError(f"'{part}' of '{value}' is no readable value") from exc
    return {"id": name.strip(), "kwargs": arguments}


def number(value: Any) -> Any:
    """YAML 1.1 takes 1e-6 for a text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return [number(v) for v in value] if isinstance(value, list) else value


def _parts(text: str) -> list[str]:
    """`a=1,b=[2,3]` cut at the commas outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "[{(") - (char in "]})")
        if char == "," and not depth:
            parts.append("")
        else:
            parts[-1] += char
    return [p.strip() for p in parts if p.strip()]


def check_steps(
    values: Sequence[str | Mapping[str, Any]], side: Side
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The steps, and the fault of each that the specification does not take, by its place.

    Axes are judged later, when the tensor's are known.
    """
    steps: list[dict[str, Any]] = []
    faults: dict[int, str] = {}
    for i, value in enumerate(values):
        try:
            step = parse_step(value)
            step["id"] = _SPOKEN.get(step["id"].lower(), step["id"])
            _judge(step, side)
        except ValueError as exc:
            faults[i] = str(exc)
        else:
            steps.append(step)
    return steps, faults


def _judge(step: dict[str, Any], side: Side) -> None:
    known = _adapters(side)
    if step["id"] not in known:
        near = closest(step["id"], known)
        other: Side = "postprocessing" if side == "preprocessing" else "preprocessing"
        if step["id"] in _adapters(other):
            raise ValueError(f"'{step['id']}' is {other} only, the specification says")
        offer = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(
            f"there is no step '{step['id']}'. {offer}There are {', '.join(sorted(known))}"
        )
    if step["id"] == "custom":
        raise ValueError(
            "a step of your own code ('custom') would keep the package from running without it; "
            "put it into the network's forward"
        )
    from pydantic import ValidationError

    trial = with_axes(step, ("batch", "channel", "z", "y", "x"))
    try:
        known[step["id"]].validate_python(trial)
    except ValidationError as exc:
        raise ValueError(f"'{step['id']}' cannot be used: {_said(exc.errors())}") from exc


def _said(errors: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic found, in a line; where a step has several forms, those of the nearest form."""
    forms: dict[str, list[str]] = {}
    for error in errors:
        parts = [str(p) for p in error["loc"][1:] if not set(str(p)) & set("[(")]
        form = parts.pop(0) if parts and parts[0][:1].isupper() else ""
        text = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            text = "is no argument of this step"
        if error["type"] == "missing":
            text = "must be given"
        forms.setdefault(form, []).append(": ".join(filter(None, (".".join(parts), text))))
    nearest: list[str] = min(forms.values(), key=len)
    return "; ".join(dict.fromkeys(nearest))


@cache
def _adapters(side: Side) -> dict[str, Any]:
    """The specification's steps by name, each as pydantic checks it."""
    from typing import get_args

    from bioimageio.spec.model import v0_5 as spec
    from pydantic import TypeAdapter

    union = spec.PreprocessingDescr if side == "preprocessing" else spec.PostprocessingDescr
    return {t.implemented_id: TypeAdapter(t) for t in get_args(get_args(union)[0])}


def with_axes(step: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """The step with the axes that it needs: given in letters or ids, else all but the batch."""
    kwargs = dict(step.get("kwargs", {}))
    name = step["id"]
    if name in _OVER_AXES or (
        name == "clip" and {"min_percentile", "max_percentile"} & set(kwargs)
    ):
        given = kwargs.get("axes")
        kwargs["axes"] = _ids(given) if given else [a for a in axes if a != "batch"]
    elif name in _ALONG or (
        name in _PER_AXIS and any(isinstance(v, list) for v in kwargs.values())
    ):
        kwargs.setdefault("axis", "channel")
    if isinstance(kwargs.get("axis"), str):
        kwargs["axis"] = LETTERS.get(kwargs["axis"], kwargs["axis"])
    made = {**step, "kwargs": kwargs}
    if name == "sigmoid" and not kwargs:
        del made["kwargs"]
    return made


def _ids(axes: str | Sequence[str]) -> list[str]:
    try:
        return list(parse_axes(axes))
    except AxesError:  # of a model with axes of its own: the specification has the last word
        return [axes] if isinstance(axes, str) else list(axes)


def is_float_out(steps: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last step leaves real numbers, whatever came in."""
    last = steps[-1]["id"] if steps else ""
    return last not in (
        "",
        "binarize",
        "ensure_dtype",
        "stardist_postprocessing",
        "cellpose_flow_dynamics",
    )
