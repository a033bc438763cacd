"""What alerts are made of: rules, the states they go through, notices, and the channels that these go to.

``monitoring.alerts`` puts it together.
"""
