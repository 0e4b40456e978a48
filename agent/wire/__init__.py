"""Codecs: bytes ↔ dataclasses, pure, without I/O. Malformed input raises one documented exception a codec."""
