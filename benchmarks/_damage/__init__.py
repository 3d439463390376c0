r"""What is done to files and processes to see what they survive."""
