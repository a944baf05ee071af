"""What may be wrong with the two pools of recordings that an emotion vector is made from, as sentences for the user.

Shares of false and missed warnings on held-out speakers are in the model card, "Whose voice".
"""

import itertools

import numpy as np

from cmet_engine.emotion.embedded_library import speaker_discriminants
from cmet_engine.emotion.recordings import Recording
from cmet_engine.emotion.vector import cosine

_INCONSISTENT = 0.4  # mean pairwise cosine of the recordings below which they do not sound alike
_OTHER_SPEAKER = 1.6  # `speaker_distance` of two speakers; strong emotion of one exceeds it in one pool of twenty
_OTHER_SPEAKER_FEW = 1.9  # the same where a pool is a clip or two
_TWO_SPEAKERS = 1.3  # distance of the two groups within a pool above which they are two speakers


def speaker_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Distance of two speakers, from the mean `Recording.speaker` [256] of some recordings each.

    Measured along the linear discriminants of the training speakers (between speakers against within, over emotions).
    """
    return float(np.sqrt(np.mean(((one - other) @ speaker_discriminants()) ** 2)))


def speaker_messages(pool: list[Recording], rest: list[Recording]) -> list[str]:
    """A sentence when the two pools, or recordings within a pool, are of different speakers."""
    if rest:
        if _group_distance(pool) > _TWO_SPEAKERS > _group_distance(rest):
            return [
                "The recordings of the emotion seem to be of several people, the neutral ones are not: the vector then holds who "
                "speaks beside how; give neutral recordings of all of them."
            ]
        apart = speaker_distance(np.mean([r.speaker for r in pool], 0), np.mean([r.speaker for r in rest], 0))
        limit = _OTHER_SPEAKER if min(len(pool), len(rest)) > 2 else _OTHER_SPEAKER_FEW
        if apart > limit:
            return [
                f"The voices of the emotion and of neutral differ a lot ({apart:.1f}; above {limit:g} it is mostly another person): "
                "the vector then holds who speaks beside how; use neutral recordings of the same voice."
            ]
        return []
    pairs = [speaker_distance(a.speaker, b.speaker) for a, b in itertools.combinations(pool[:40], 2)]
    if (pairs and float(np.median(pairs)) > _OTHER_SPEAKER_FEW) or _group_distance(pool) > _TWO_SPEAKERS:
        return ["The recordings seem to be of several people; give neutral recordings of the same people."]
    return []


def _group_distance(pool: list[Recording]) -> float:
    """`speaker_distance` of the two clusters of a pool; 0 for fewer than four recordings or a cluster of one.

    Over pools of eight clips of speakers left out it exceeds `_TWO_SPEAKERS` in none of 127 of one speaker, and in 38 to
    58 % of those of which half are of another one.
    """
    if len(pool) < 4:
        return 0.0
    speakers = np.stack([recording.speaker for recording in pool])
    one = _two_groups(speakers @ speaker_discriminants())
    if not 2 <= one.sum() <= len(one) - 2:
        return 0.0
    return speaker_distance(speakers[one].mean(0), speakers[~one].mean(0))


def exchanged_messages(pool: list[Recording], rest: list[Recording]) -> list[str]:
    """A sentence when the labels of the two pools seem to be mixed up."""
    wanted, neutral = np.mean([r.neutral for r in pool]), np.mean([r.neutral for r in rest])
    if neutral < 0.35 and wanted > neutral + 0.25:
        return ["The neutral recordings sound more emotional than those of the emotion; were the two pools exchanged?"]
    return []


def consistency_messages(pool: list[Recording], each: np.ndarray, consistency: float) -> list[str]:
    """A sentence when the recordings [N, 13] hardly agree, fall into two groups, or one is unlike all others.

    Over 74 pools of seven held-out speakers the limits warn in 8 % of those of one emotion. They find 35 % of those of which
    half are of another emotion, and 22 % of the single strays, 81 % of which they name right.
    """
    if consistency < _INCONSISTENT:
        return [
            f"The recordings hardly agree with each other (mean cosine {consistency:.2f}); they may hold several emotions."
        ]
    if len(pool) < 4:
        return []
    unit = each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    with_others = np.array([cosine(own, each.sum(0) - own) for own in each])
    order = with_others.argsort()
    least, second = with_others[order[:2]]
    if min(np.median(with_others) - least, 2 * (second - least)) > 0.4 and np.median(with_others) > 0.8:
        return [f"{pool[order[0]].path.name} sounds unlike the others; is its label right?"]
    one = _two_groups(unit)
    few = one if one.sum() * 2 <= len(one) else ~one
    if few.sum() < 2:
        return []
    between = float(cosines[np.ix_(few, ~few)].mean())
    within = min(float(cosines[np.ix_(g, g)].sum() - g.sum()) / (g.sum() * (g.sum() - 1)) for g in (few, ~few))
    if between < 0.6 and within - between > 0.35:
        names = [recording.path.name for recording, here in zip(pool, few, strict=True) if here]
        return [
            f"The recordings fall into two groups that sound unlike each other; are the labels mixed up? One group is "
            f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''}."
        ]
    return []


def _two_groups(points: np.ndarray) -> np.ndarray:
    """bool [N]: points [N, any] in two clusters (k-means, started along the first principal axis)."""
    centred = points - points.mean(0)
    side = centred @ np.linalg.svd(centred, full_matrices=False)[2][0] > 0
    for _ in range(10):
        if side.all() or not side.any():
            break
        one, other = (np.square(points - points[group].mean(0)).sum(1) for group in (side, ~side))
        if ((one < other) == side).all():
            break
        side = one < other
    return side


def pairwise_cosine(each: np.ndarray) -> float | None:
    """Mean cosine over all pairs of rows of `each` [N, 13]; None for one row."""
    if len(each) < 2:
        return None
    unit = each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-9)
    cosines = unit @ unit.T
    return float((cosines.sum() - np.trace(cosines)) / (len(each) * (len(each) - 1)))
