"""What differs between two bundles: what they say of themselves, and what they answer.

::

    side.py         what is read of one bundle    changes.py   two JSON values
    differences.py  what differs                  flips.py     which answers change
"""
