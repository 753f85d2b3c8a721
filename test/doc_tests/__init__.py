"""The parts of test/docs."""
