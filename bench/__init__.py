"""Measurements of the whole hub as ratios within one run; never tests."""
