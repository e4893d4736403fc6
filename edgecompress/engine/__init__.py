"""What joins stages: recipes, chains and runs, through the store."""
