"""The report of an edit: one HTML file to look at and one JSON file for machines.

The page is the template `report.html.j2` with the stylesheet `report.css` and the script `report.js` put into it, so that the
one file opens anywhere.
"""

from cmet_engine.quality.report.data import EditReport, FramePair
from cmet_engine.quality.report.page import write_report

__all__ = ["EditReport", "FramePair", "write_report"]
