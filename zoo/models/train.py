"""Train the network of a built-in model.

    python zoo/models/train.py em-membrane

Writes ``build/<name>/checkpoint.pt`` every few minutes; the same command goes on from there. The
averaged weights (EMA) are the result.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from common.recipes import load_recipe
from common.training import add_arguments, train


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, help="default: the folder that the recipe names")
    parser.add_argument("--out", type=Path, help="default: build/<name>")
    add_arguments(parser)
    args = parser.parse_args()
    recipe = load_recipe(args.name)
    views = partial(recipe.make_views, args.data or recipe.DATA)
    train(recipe.make_network, views, recipe.loss, args.out or Path("build", args.name), args)


if __name__ == "__main__":
    main()
