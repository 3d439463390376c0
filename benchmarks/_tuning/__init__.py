r"""The search for hyper-parameters: what is tried next, and its log."""
