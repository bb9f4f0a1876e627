"""Weights format to weights format; no weights are kept without proof."""
