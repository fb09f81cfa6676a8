"""The part of Plumbline that installs: the store's migrations and what operators run."""
