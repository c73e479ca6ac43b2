"""The parts of scripts/suites."""
