r"""What is run: plans, models, data, and the processes that run them."""
