"""Weights format to weights format, with proof: the layer above the runner.

Nothing lives here yet; docs/design/house.md says what will. The package exists so that the layers
are checked from the start.
"""
