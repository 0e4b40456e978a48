"""Eyes on the wire: a tiny privileged helper that hands sockets over, and what reads from them without any privilege."""
