"""What runs as int8, and whether the answers are still those of the fp32 model."""
