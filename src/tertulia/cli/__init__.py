"""The `tertulia` command."""
