"""From a network and its author's facts to a package."""
