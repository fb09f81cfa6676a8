"""What detectors are worth: time between false alarms and delay, on worlds whose truth is known."""
