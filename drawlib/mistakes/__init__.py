"""Public mistakes, told in a catalogue and planted on purpose."""
