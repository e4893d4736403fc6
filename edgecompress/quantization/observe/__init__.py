"""Which values activations take: samples, one pass over them, and the ranges that they give."""
