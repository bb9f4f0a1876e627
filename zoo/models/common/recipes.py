"""Find the recipe of a model: the file ``recipe.py`` in the folder of its name."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

MODELS = Path(__file__).parents[1]
BUILT_IN = MODELS.parent / "biozoo" / "builtin"


def names() -> list[str]:
    """Names of the models that have a recipe."""
    return sorted(p.parent.name for p in MODELS.glob("*/recipe.py"))


def load_recipe(name: str) -> ModuleType:
    """Import the recipe of the model `name`.

    Raises
    ------
    SystemExit
        If there is none.
    """
    path = MODELS / name / "recipe.py"
    if not path.exists():
        raise SystemExit(f"There is no model {name!r}. There are {', '.join(names())}.")
    if str(MODELS) not in sys.path:
        sys.path.insert(0, str(MODELS))
    spec = importlib.util.spec_from_file_location(f"recipe_{name.replace('-', '_')}", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
