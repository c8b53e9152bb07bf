"""References in files that people wrote, from an old place to a new: found, proven, edited in place."""
