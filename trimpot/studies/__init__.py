"""Studies: a question, arms that differ in one knob, a decision rule fixed beforehand; the runner; one file each."""

from trimpot.studies.ablation_ladder import STUDY as ABLATION_LADDER
from trimpot.studies.arena import STUDY as ARENA
from trimpot.studies.contamination import STUDY as CONTAMINATION
from trimpot.studies.dpo_beta import STUDY as DPO_BETA
from trimpot.studies.dpo_beta_real import STUDY as DPO_BETA_REAL
from trimpot.studies.dpo_label_noise import STUDY as DPO_LABEL_NOISE
from trimpot.studies.dpo_overtraining import STUDY as DPO_OVERTRAINING
from trimpot.studies.failure_labs import STUDY as FAILURE_LABS
from trimpot.studies.grpo_group_size import STUDY as GRPO_GROUP_SIZE
from trimpot.studies.grpo_normalisation import STUDY as GRPO_NORMALISATION
from trimpot.studies.judge_position_bias import STUDY as JUDGE_POSITION_BIAS
from trimpot.studies.label_noise_floor import STUDY as LABEL_NOISE_FLOOR
from trimpot.studies.ranking_items import STUDY as RANKING_ITEMS
from trimpot.studies.sft_mask import STUDY as SFT_MASK
from trimpot.studies.study import Study
from trimpot.studies.template_variance import STUDY as TEMPLATE_VARIANCE
from trimpot.studies.trainable_set import STUDY as TRAINABLE_SET

STUDIES: dict[str, Study] = {
    study.id: study
    for study in (
        ABLATION_LADDER,
        ARENA,
        CONTAMINATION,
        DPO_BETA,
        DPO_BETA_REAL,
        DPO_LABEL_NOISE,
        DPO_OVERTRAINING,
        FAILURE_LABS,
        GRPO_GROUP_SIZE,
        GRPO_NORMALISATION,
        JUDGE_POSITION_BIAS,
        LABEL_NOISE_FLOOR,
        RANKING_ITEMS,
        SFT_MASK,
        TEMPLATE_VARIANCE,
        TRAINABLE_SET,
    )
}
"""Id -> study."""
