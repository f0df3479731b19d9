"""The web page of the control planes: files without a build step, and what hands them out."""

from frontier_tx.web.files import web_files

__all__ = ["web_files"]
