"""Retraining by one rule for every model: the layer above the converters.

Nothing lives here yet; docs/design/house.md says what will. The package exists so that the layers
are checked from the start.
"""
