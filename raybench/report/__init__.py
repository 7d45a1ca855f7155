"""Show rankings: tables for terminals and files."""
