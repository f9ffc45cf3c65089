"""Drives a cluster of real broker processes through failures, and checks what its clients saw; `python -m chaos`."""
