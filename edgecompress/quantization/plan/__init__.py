"""What becomes of each layer: the fields of a scheme, its plan, and what cannot be quantized."""
