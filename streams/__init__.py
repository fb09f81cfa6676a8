"""The part of Plumbline that touches the world and never thinks.

HTTP in, the embedded runner, landing, notifiers, rollback targets, the response ledger and the command line.
Each foreign library enters through one module.
"""
