"""What the built-in models have in common: network, training material, training, measuring."""
