"""Sequential detectors with promised false alarms, in river's interface. A file here is one detector."""

from detectors.registry import Registry

DETECTORS = Registry[object]("detector", "detectors.drift")
detector = DETECTORS.register
