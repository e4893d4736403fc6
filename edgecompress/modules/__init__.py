"""PyTorch modules that transformers lacks and a task needs, and the files that describe them."""
