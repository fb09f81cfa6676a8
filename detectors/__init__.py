"""The part of Plumbline that thinks and never touches the world.

Records, features, redaction, scorers, drift detectors, decision rules, stages and seeded worlds. Nothing
here opens a socket, a file of the user's, a clock or a log: what a function returns depends on its
arguments alone, which is why a replay gives the same answers.

It is a library too::

    from detectors.drift.betting_sr import BettingSR

works inside a plain river pipeline.
"""
