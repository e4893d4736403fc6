"""The writer of every plan, and what prepares or stores weights for it."""
