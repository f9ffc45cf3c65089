"""What consumer groups cost three brokers on this machine; bench/figures-groups runs it."""
