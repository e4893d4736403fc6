"""Parts of PyTorch models taken out for good: heads, neurons and layers, and the files of both."""
