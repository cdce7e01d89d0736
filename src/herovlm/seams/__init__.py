"""Where herovlm touches a transformers model: hooks, contexts, moved weights, releases, and what is refused."""
