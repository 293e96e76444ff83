"""`holdfast dashboard`: one page that shows jobs at work, and lets the one who has its token hold them.

Invariant: it reads what `holdfast status` reads, owns nothing of a job, and looks only while somebody looks
at it. The page lies in `static/`, and needs no build.
"""
