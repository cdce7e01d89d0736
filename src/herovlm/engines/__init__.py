"""Engines that herovlm runs on when one process is not enough; each is thin, all that chooses is imported."""
