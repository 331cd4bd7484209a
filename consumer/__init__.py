"""Moorage: a reservation event becomes an environment, and its end takes the environment away."""
