"""The page of `herovlm app`: a picture, a question, and what the answer costs with few visual positions."""
