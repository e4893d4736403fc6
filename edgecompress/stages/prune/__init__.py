"""Stages that remove parts of a model for good."""
