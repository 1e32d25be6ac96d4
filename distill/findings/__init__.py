"""What each stage found, as small frozen records that go to JSON and back.

The report reads these and nothing else: no arrays, no stores. A share is in [0, 1], a time in
seconds, a size in bytes unless the name says otherwise.
"""

from distill.findings.compared import (
    Chosen,
    Comparison,
    Fixed,
    SeedScore,
    Shipped,
    Trial,
    Versus,
    Way,
)
from distill.findings.made import (
    Extracted,
    ExtractedSplit,
    Head,
    Heads,
    PrefixScore,
    Projected,
    Projections,
    Student,
    Students,
    Taught,
)
from distill.findings.measured import (
    Check,
    Cost,
    Difference,
    Distortion,
    Interval,
    Latency,
    Promise,
    Score,
    Validation,
)
from distill.findings.record import FindingError, Record
from distill.findings.seen import (
    DamageFound,
    Doctor,
    Exported,
    Info,
    Prediction,
    Predictions,
    StoreInfo,
    Verified,
)
from distill.findings.shipped import ExportedStudent, Quantised
from distill.findings.swept import (
    Band,
    Certificate,
    Diagnostics,
    Recommended,
    Sweep,
    SweptMap,
    Tested,
)
from distill.findings.told import Plan, PlannedStage, Report, Reported

__all__ = [
    "Band",
    "Certificate",
    "Check",
    "Chosen",
    "Comparison",
    "Cost",
    "DamageFound",
    "Diagnostics",
    "Difference",
    "Distortion",
    "Doctor",
    "Exported",
    "ExportedStudent",
    "Extracted",
    "ExtractedSplit",
    "FindingError",
    "Fixed",
    "Head",
    "Heads",
    "Info",
    "Interval",
    "Latency",
    "Plan",
    "PlannedStage",
    "Prediction",
    "Predictions",
    "PrefixScore",
    "Projected",
    "Projections",
    "Promise",
    "Quantised",
    "Recommended",
    "Record",
    "Report",
    "Reported",
    "Score",
    "SeedScore",
    "Shipped",
    "StoreInfo",
    "Student",
    "Students",
    "Sweep",
    "SweptMap",
    "Taught",
    "Tested",
    "Trial",
    "Validation",
    "Verified",
    "Versus",
    "Way",
]
