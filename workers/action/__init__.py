"""The steps of ``action.yml``: inputs from the environment, one or two commands, what a workflow reads.

Names and reasons come from registries that strangers push to, so all that is written for the runner goes
through :mod:`workers.action.told` or :mod:`workers.action.page`, which escape it.
"""
