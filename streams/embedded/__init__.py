"""The embedded runner: one process, an SQLite journal in place of Kafka, the same stages."""
