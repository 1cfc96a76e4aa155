"""Other products that keep conversations, installed and started for the cell `peers` alone.

Each is installed from the package index into an environment of its own and asked through its own
API for the same as the product: nothing of theirs is imported here.
"""
