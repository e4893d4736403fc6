"""Stages that change what a model reads: its word pieces."""
