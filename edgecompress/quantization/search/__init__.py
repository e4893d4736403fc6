"""Which layers lose how much, and which form each gets: variants that are tried and timed."""
