"""The web page of the control planes: files without a build step, and what hands them out."""

from frontier_tx.web.files import WebFiles

__all__ = ["WebFiles"]
