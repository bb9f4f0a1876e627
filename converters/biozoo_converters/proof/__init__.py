"""Whether two networks compute the same, kept so that it can be repeated."""
