"""The article's claims as experiments: each is run on real data and gets a verdict that stands on intervals.

The way of the data: a claim's file in ``claims/`` takes its configuration, trains or times, and returns a ``Result`` of
numbers (``flatconv.findings``); ``run`` calls the claims in the order of ``claims.CLAIMS`` and keeps what came out as JSON;
``flatconv.report`` draws it. ``statistics`` has the intervals, ``training`` the loop that all trained claims share, ``data``
the real images.
"""
