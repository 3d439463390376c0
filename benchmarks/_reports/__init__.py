r"""What is told of finished runs: tables, pictures and documents."""
