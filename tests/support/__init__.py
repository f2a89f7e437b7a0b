"""What tests share: hosts, faults, and the detectors of what is left behind."""
