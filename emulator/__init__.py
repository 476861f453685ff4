"""Fake devices for trying the hub without hardware: Modbus RTU on pseudo-terminals, motion over HTTP.

Shares no code with the hub: a common codec would bless its own bugs.
"""
