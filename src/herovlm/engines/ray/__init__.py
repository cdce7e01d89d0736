"""Piles of pictures on Ray Data: a manifest goes in, a folder of Parquet files with one row an id comes out."""
