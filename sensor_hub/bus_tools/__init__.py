"""For people in front of an unknown device: what answers on a line, and what its registers mean. Reads only."""
