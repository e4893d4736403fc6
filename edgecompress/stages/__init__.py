"""The stages: a file's path here is its name in a recipe."""
