"""What a kill, a full disk or a failing disk left behind: found, and mended before DVC runs.

DVC writes dvc.lock and its own lock in place, so that both can be torn, and trusts what lies in its
cache.
"""
