"""Strategies that change how an answer is written, one paper a file; `registry.STRATEGIES` lists them."""
