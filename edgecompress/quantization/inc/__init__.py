"""Intel Neural Compressor: what its observers, SmoothQuant and tuning find in a PyTorch model.

It finds the scales of weights and the ranges of activations on PyTorch's side. They travel, by the
paths of the layers, to the graph that the model's ordinary export is, and the writer of all schemes
makes that int8. Everything here but `config` and `fields` needs torch and is imported inside
functions only.
"""
