"""How a model family is seen and fed: one file a family, the shared parts beside them."""
