"""The status page: rendered from a :class:`mirror.status.values.Status`, and written or served."""
