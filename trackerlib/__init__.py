"""Five visual-tracking papers, reproduced: SiamFC, DSiam, SiaMemory, ROLO and GSTP.

>>> import trackerlib as tl
>>> dataset = tl.load_dataset("rendered")                    # doctest: +SKIP
>>> tracker = tl.load_tracker("siamfc-3s")                   # doctest: +SKIP
>>> results = tl.evaluate(tracker, dataset)                  # doctest: +SKIP
"""

__version__ = "0.1.0"
