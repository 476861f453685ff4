"""Stand-in for the platform's library of the same name."""
