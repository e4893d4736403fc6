"""Fields that several stages have in common; each file is one group of them."""
