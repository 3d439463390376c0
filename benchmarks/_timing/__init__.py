r"""What the speed and the scale benchmark time, and how they report it."""
