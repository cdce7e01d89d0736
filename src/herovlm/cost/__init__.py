"""What answering costs: counted from the config, and measured on the model itself."""
