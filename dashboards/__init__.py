"""The part of Plumbline that shows: SQL by name, the built-in page, Grafana boards as typed code."""
