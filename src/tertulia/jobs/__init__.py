"""Background work that must not be lost: jobs left behind by transactions, and housekeeping."""
