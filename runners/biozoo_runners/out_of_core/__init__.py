"""Runs of images that are larger than memory."""
