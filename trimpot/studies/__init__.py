"""Studies: a question, arms that differ in one knob, a decision rule fixed beforehand; the runner; one file each."""

from trimpot.studies.dpo_beta import STUDY as DPO_BETA
from trimpot.studies.failure_labs import STUDY as FAILURE_LABS
from trimpot.studies.study import Study

STUDIES: dict[str, Study] = {study.id: study for study in (DPO_BETA, FAILURE_LABS)}
"""Id -> study."""
