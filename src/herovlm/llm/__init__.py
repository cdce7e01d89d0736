"""Pruning between the layers of the language model."""
