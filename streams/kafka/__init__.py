"""Kafka in the place of the embedded journal: topics, and how every client gets in."""
