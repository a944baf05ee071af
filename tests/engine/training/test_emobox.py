"""EmoBox's folds: files of other layouts are found, and the kernel is fitted and tested fold by fold."""

import json

import numpy as np
import pytest

from cmet_engine.emotion.backbone import STATISTICS
from cmet_engine.errors import CmetError
from cmet_engine.evaluation import emobox
from cmet_engine.training.corpora.speech import Recording
from cmet_engine.training.speech.clips import Clips


def write_fold(folder, corpus, number, split, rows):
    path = folder / corpus / f"fold_{number}" / f"{corpus}_{split}_fold_{number}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"wav": wav, "emo": emo}) + "\n" for wav, emo in rows))


def test_a_file_is_known_whatever_folders_it_lies_in():
    assert emobox.mark("downloads/cremad/AudioWAV/1052_WSI_ANG_XX.wav") == emobox.mark("crema/1052_WSI_ANG_XX.ogg")
    assert emobox.mark("mead/W019/audio/neutral/level_1/020.m4a") == emobox.mark("mead/neutral_W019_level_1_020.flac")
    assert emobox.mark("mead/W019/audio/sad/level_1/020.m4a") != emobox.mark("mead/W019/audio/neutral/level_1/020.m4a")


def test_every_fold_is_fitted_and_tested(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    names = [
        f"1{speaker:03d}_DFA_{emotion}_{take}.ogg"
        for speaker in range(6)
        for emotion in ("ANG", "NEU")
        for take in "abcd"
    ]
    measured = random.standard_normal((1, len(names), STATISTICS)).astype(np.float32)
    measured[0, ["ANG" in name for name in names], :40] += 3  # anger is heard in some of the statistics
    rows = [(f"AudioWAV/{name[:-4]}.wav", name[9:12]) for name in names]
    (tmp_path / "cremad").mkdir()
    (tmp_path / "cremad" / "label_map.json").write_text('{"ANG": "Angry", "NEU": "Neutral"}')
    for number, speakers in ((1, "012"), (2, "345")):
        tested = [row for row in rows if row[0][12] in speakers]
        write_fold(tmp_path, "cremad", number, "test", [*tested, ("AudioWAV/1099_DFA_ANG_XX.wav", "ANG")])
        if number == 1:  # of the other fold the list to train on is missing, as where a file is too large to fetch
            write_fold(tmp_path, "cremad", number, "train", [row for row in rows if row not in tested])
    many = len(names)
    clips = Clips(
        names, np.full(many, "crema"), np.array([f"crema_{name[:4]}" for name in names]),
        np.array(["angry" if "ANG" in name else "neutral" for name in names]), np.full(many, ""), np.zeros(many), measured,
    )  # fmt: skip
    monkeypatch.setattr(
        emobox, "read_corpora", lambda _: [Recording(tmp_path, n, "crema", n[:4], "angry") for n in names]
    )
    monkeypatch.setattr(emobox, "prepare", lambda *_, **__: clips)
    figures = emobox.evaluate_emobox([tmp_path], tmp_path)["cremad"]
    assert figures["unweighted"] > 90 and figures["folds"] == 2
    assert (figures["tested"], figures["listed"], figures["shared"]) == (48, 50, 0.0)
    assert "published: HuBERT base (95 M) 71.1 %" in emobox.emobox_text({"cremad": figures})


def test_a_folder_without_folds_is_refused(tmp_path):
    with pytest.raises(CmetError, match="holds no folds of cremad"):
        emobox.read_folds(tmp_path, "cremad")
