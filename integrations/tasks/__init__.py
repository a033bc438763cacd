"""Task queues and schedulers: one file per library, and what they share.

``stamps`` is what travels with a task, ``runs`` what becomes of it in the worker.
"""
