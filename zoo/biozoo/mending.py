"""Repairs of published descriptions that bioimageio.spec refuses for a harmless fault.

A published model stays as it is, and some carry a slip that spec learned to refuse only later. A
repair is made where one meaning is left and no number of a run depends on it; it is tried only
after spec has refused the description as written, works on a copy, and is told (`mended` of a
package). The file itself is never changed.

- A step names an **axis for values that are single numbers**. One number counts for every index of
  whatever axis, so the axis says nothing; it is left out.
- An axis that is **not the batch is called "b" or "batch"**, which spec keeps for the batch. No
  other axis of the tensor can be meant, so it is renamed, and sizes that refer to it with it.
- An output has a **halo and a fixed size**, and the input takes that size. A halo is what is
  cropped where tiles meet, so tiles are meant, of the size for which the output's is given: the
  input is fixed to it, and the output follows. Where the author meant any size, the result is the
  same.
- The author's **list of libraries is not a conda file**. biozoo installs nothing from it; it is
  left out, and code and weights stay as they are.
- **One weights entry fails on its own** while others are sound: it is left out, and the model runs
  from the others.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["mend", "without_weights"]

Raw = dict[str, Any]

#: Step -> the values that it may have one of, or one per index of its axis.
_VALUES = {
    "scale_linear": ("gain", "offset"),
    "binarize": ("threshold",),
    "fixed_zero_mean_unit_variance": ("mean", "std"),
}
_BATCH = ("b", "batch")


def mend(raw: Mapping[str, Any]) -> tuple[Raw, tuple[str, ...]]:
    """A copy with every repair that applies, and one sentence for each.

    Parameters
    ----------
    raw
        A description as written, any format version.

    Returns
    -------
    tuple
        The description, and what was repaired; no sentence: nothing applies.
    """
    mended: Raw = copy.deepcopy(dict(raw))
    notes: list[str] = []
    for side in ("inputs", "outputs"):
        for tensor in _mappings(mended.get(side)):
            notes += _single_values(tensor)
            notes += _batch_names(tensor, mended)
    for output in _mappings(mended.get("outputs")):
        notes += _fixed_halo(output, _mappings(mended.get("inputs")))
    notes += _libraries(mended)
    return mended, tuple(notes)


def without_weights(
    raw: Mapping[str, Any], faults: Mapping[str, str]
) -> tuple[Raw, tuple[str, ...]]:
    """A copy without the weights entries that fail, where the others do not.

    Parameters
    ----------
    faults
        What spec refuses, by field ("weights.pytorch_state_dict.architecture").

    Returns
    -------
    tuple
        The description, and one sentence per entry left out; no sentence: spec refuses something
        else too, or no entry would be left.
    """
    mended: Raw = copy.deepcopy(dict(raw))
    weights = mended.get("weights")
    if not isinstance(weights, dict):
        return mended, ()
    failed: dict[str, list[str]] = {}
    for field, fault in faults.items():
        top, _, rest = field.partition(".")
        entry, _, inside = rest.partition(".")
        if top != "weights" or entry not in weights:
            return mended, ()
        failed.setdefault(entry, []).append(f"{inside}: {fault}" if inside else fault)
    if not failed or len(failed) == len(weights):
        return mended, ()
    for entry in failed:
        del weights[entry]
    for other in _mappings(weights.values()):
        if other.get("parent") in failed:  # which weights it was made from is history
            del other["parent"]
    return mended, tuple(
        f"the {entry} weights are left out, their entry is refused ({'; '.join(why)})"
        for entry, why in failed.items()
    )


def _single_values(tensor: Raw) -> Iterator[str]:
    """Take the axis from steps whose values are single numbers."""
    for step in _steps(tensor):
        name, kwargs = _name(step), step.get("kwargs")
        if name not in _VALUES or not isinstance(kwargs, dict):
            continue
        given = [kwargs[key] for key in _VALUES[name] if kwargs.get(key) is not None]
        if not given or not all(_is_number(value) for value in given):
            continue
        for key in ("axis", "axes"):
            if kwargs.get(key) is not None:
                named = _text(kwargs.pop(key))
                yield (
                    f"'{_name(tensor)}': {name} has the {key} '{named}' and single numbers as "
                    f"values; '{named}' is left out, one number counts for all"
                )


def _batch_names(tensor: Raw, raw: Raw) -> Iterator[str]:
    """Rename an axis that is not the batch and is called as if it were."""
    axes = [a for a in _mappings(tensor.get("axes")) if a.get("type") != "batch"]
    called = [a for a in axes if a.get("id") in _BATCH]
    has_batch = len(axes) < len(_mappings(tensor.get("axes")))
    told = {word for step in _steps(tensor) for word in _axes_of(step)}
    if len(called) != 1 or has_batch or told & set(_BATCH):
        return  # which axis a name means would be a guess
    old, new = str(called[0]["id"]), "axis_b"
    if any(a.get("id") == new for a in axes):
        return
    called[0]["id"] = new
    for size in _references(raw):
        if size.get("tensor_id") == tensor.get("id") and size.get("axis_id") in _BATCH:
            size["axis_id"] = new
    yield (
        f"'{_name(tensor)}': its {called[0].get('type')} axis '{old}' is called '{new}', since "
        f"'{old}' is kept for the batch axis"
    )


def _fixed_halo(output: Raw, inputs: list[Raw]) -> Iterator[str]:
    """Tie an output of fixed size with a halo to the input of the same axes."""
    old = isinstance(output.get("axes"), str)
    tie = _tie_letters if old else _tie_axes
    tied = [t for t in inputs if isinstance(t.get("axes"), str) == old]
    if len(inputs) == len(tied) == 1 and (sizes := tie(output, tied[0])):
        yield (
            f"'{_name(output)}': a halo and a fixed size ({sizes}); the input "
            f"'{_name(tied[0])}' is fixed to the same size and cut into tiles of it"
        )


def _tie_letters(output: Raw, given: Raw) -> str:
    """Format 0.4 and older: letters, and one shape for all axes. The sizes, "" for no fault."""
    letters, shape, halo = output["axes"], output.get("shape"), output.get("halo")
    rules = _old_sizes(given)
    if not (isinstance(shape, list) and isinstance(halo, list) and rules):
        return ""
    axes = [
        (a, n, h, a not in "bc" and _takes(rules.get(a), n))
        for a, n, h in zip(letters, shape, halo, strict=False)
    ]
    if not len(axes) == len(shape) == len(halo) == len(letters) or not any(halo):
        return ""
    if any(h and not follows for _, _, h, follows in axes):
        return ""
    fixed = {a: n for a, n, _, follows in axes if follows}
    if any(isinstance(rule, tuple) and a not in fixed for a, rule in rules.items()):
        return ""  # another axis is free: one shape cannot say both
    given["shape"] = [fixed.get(a, rule) for a, rule in rules.items()]
    output["shape"] = {
        "reference_tensor": _name(given),
        # size = scale * size of the input + 2 * offset
        "scale": [1.0 if follows or a == "b" else 0.0 for a, _, _, follows in axes],
        "offset": [0 if follows or a == "b" else n / 2 for a, n, _, follows in axes],
    }
    return ", ".join(f"{a} {n}" for a, n in fixed.items())


def _tie_axes(output: Raw, given: Raw) -> str:
    """Format 0.5: an axis has its own size and halo. The sizes, "" for no fault."""
    by_id = {_axis_id(a): a for a in _mappings(given.get("axes"))}
    axes = [a for a in _mappings(output.get("axes")) if a.get("halo")]
    faulty = [a for a in axes if isinstance(a.get("size"), int)]
    for a in faulty:
        other = by_id.get(_axis_id(a), {})
        same = [other.get(k, d) == a.get(k, d) for k, d in (("type", ""), ("scale", 1.0))]
        rule = other.get("size")
        if isinstance(rule, Mapping):
            rule = (rule.get("min"), rule.get("step"))
        if not all(same) or not _takes(rule, a["size"]):
            return ""
    sizes = ", ".join(f"{_axis_id(a)} {a['size']}" for a in faulty)
    for a in faulty:
        by_id[_axis_id(a)]["size"] = a["size"]
        a["size"] = {"tensor_id": given.get("id", "input"), "axis_id": _axis_id(a)}
    return sizes


def _old_sizes(tensor: Raw) -> dict[str, Any]:
    """Letter -> size, or (min, step), of an input of format 0.4."""
    shape, letters = tensor.get("shape"), str(tensor.get("axes"))
    if isinstance(shape, list):
        return dict(zip(letters, shape, strict=False))
    if not isinstance(shape, dict):
        return {}
    least, step = shape.get("min"), shape.get("step")
    if not (isinstance(least, list) and isinstance(step, list)):
        return {}
    rules = zip(letters, least, step, strict=False)
    return {a: (low, by) if by else low for a, low, by in rules}


def _takes(rule: Any, size: Any) -> bool:
    """Whether a size rule, a number or (min, step), allows a size."""
    if not isinstance(rule, tuple):
        return _is_number(size) and rule == size
    low, step = rule
    return all(map(_is_number, (low, step, size))) and size >= low and (size - low) % step == 0


def _axis_id(axis: Raw) -> str:
    kind = _text(axis.get("type"))
    return _text(axis.get("id")) or ("x" if kind == "space" else kind)


def _libraries(raw: Raw) -> Iterator[str]:
    """Take out lists of libraries that are no conda file."""
    weights = raw.get("weights")
    for entry, values in weights.items() if isinstance(weights, dict) else ():
        if not isinstance(values, dict) or not (found := values.get("dependencies")):
            continue
        source = _text(found.get("source") if isinstance(found, Mapping) else found)
        if not source.lower().endswith((".yaml", ".yml")):
            del values["dependencies"]
            yield (
                f"weights.{entry}: the list of libraries '{source}' is no conda file and is left "
                "out; biozoo installs nothing from it"
            )


# ---------------------------------------------------------------------------------------- reading


def _mappings(values: Any) -> list[Raw]:
    if not isinstance(values, Iterable) or isinstance(values, (str, Mapping)):
        return []
    return [v for v in values if isinstance(v, dict)]


def _steps(tensor: Raw) -> list[Raw]:
    return [s for key in ("preprocessing", "postprocessing") for s in _mappings(tensor.get(key))]


def _name(value: Mapping[str, Any]) -> str:
    """`id` in format 0.5, `name` before."""
    return _text(value.get("id") or value.get("name"))


def _axes_of(step: Raw) -> list[str]:
    kwargs = step.get("kwargs")
    named = [kwargs.get(k) for k in ("axis", "axes")] if isinstance(kwargs, dict) else []
    return [str(a) for n in named for a in (n if isinstance(n, (list, str)) else ())]


def _references(raw: Raw) -> Iterator[Raw]:
    """Sizes of all axes that refer to another axis."""
    for side in ("inputs", "outputs"):
        for tensor in _mappings(raw.get(side)):
            for axis in _mappings(tensor.get("axes")):
                size = axis.get("size")
                if isinstance(size, dict) and "axis_id" in size:
                    yield size


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value or "")
