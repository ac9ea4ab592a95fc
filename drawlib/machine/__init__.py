"""The machine under a training: devices, processes, signals, files."""
