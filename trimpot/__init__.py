"""trimpot: a post-training workbench for large language models.

For every knob of post-training it answers three questions: what knob is it, when does it fail,
which metric does it move. Importing this package imports no torch.
"""

__version__ = "0.1.0"
