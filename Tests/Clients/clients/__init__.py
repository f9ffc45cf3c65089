"""Drives the real broker with real Kafka clients; run as `python -m clients --binary PATH`."""
