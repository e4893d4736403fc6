"""Integers of weights: 8 bits by layer, channel or row, and blocks of 4 or 8 bits."""
