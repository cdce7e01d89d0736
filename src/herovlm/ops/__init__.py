"""Pure tensor functions; they know neither paper nor model."""
