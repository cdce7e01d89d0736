"""Methods that prune visual positions between the layers of the language model; one paper a file (see base.py)."""
