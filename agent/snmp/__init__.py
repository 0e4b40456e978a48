"""SNMP as Ronda needs it: a client behind a narrow interface (wire.py), profiles as data, and what becomes of a device's answers."""
