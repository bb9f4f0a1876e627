"""Simulators of microscopy images with known truth; `biozoo.samples` is the way to them.

The modules here import numpy and scipy at their top, so nothing imports them before a sample is
made.
"""
