"""A mirror's registries in the words of each client: one module for each format, from a choice to files."""
