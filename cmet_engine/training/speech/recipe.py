"""The training of the speech encoder: what `cmet train encoder` does."""

from collections.abc import Sequence
from pathlib import Path

from cmet_engine.emotion.heads import Heads
from cmet_engine.emotion.heads_weights import save_heads
from cmet_engine.errors import InvalidInput
from cmet_engine.files import check_writable, whole_file
from cmet_engine.progress import Progress
from cmet_engine.training.corpora.speech import read_corpora
from cmet_engine.training.speech.clips import Clips, prepare
from cmet_engine.training.speech.config import TrainingConfig
from cmet_engine.training.speech.kernels import fit_heads
from cmet_engine.training.speech.targets import to_train_on

WEIGHTS = "encoder.safetensors"
CONFIG = "config.json"


def train_folders(
    corpora: Sequence[str | Path],
    output: str | Path,
    *,
    config: TrainingConfig | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train an encoder from folders of labelled speech (`cmet train encoder`); returns the encoder's file.

    Args:
        corpora: see `read_corpus`. Only the datasets that `config` names are trained on.
        output: folder that receives the weights and the configuration; made when absent.
        config: every number; None: the defaults.
        cache: folder for the prepared statistics; None: a folder `cache` in the output.
        progress: called as `progress(stage, done, total)`.

    Raises:
        CmetError: see `read_corpus`, `prepare` and `to_train_on`, or the output cannot be written.
    """
    output = Path(output)
    config = config or TrainingConfig()
    recordings = [r for r in read_corpora(corpora) if r.dataset in config.datasets]
    if not recordings:
        raise InvalidInput(
            f"None of the recordings is of a dataset to train on ({', '.join(config.datasets)}); name others in the "
            "setting 'datasets'."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"Cannot make the folder {output}: {error.strerror}.") from error
    check_writable(output / WEIGHTS, force=True)
    clips = prepare(recordings, output / "cache" if cache is None else cache, config, progress=progress)
    train_encoder(clips, config, output, progress=progress)
    return output / WEIGHTS


def train_encoder(clips: Clips, config: TrainingConfig, output: Path, *, progress: Progress | None = None) -> Heads:
    """Fit heads to prepared clips; `output` receives encoder.safetensors and config.json.

    Raises:
        CmetError: see `to_train_on`.
    """
    heads = fit_heads(clips, to_train_on(clips, config), config, progress=progress)
    save_heads(heads, output / WEIGHTS, {}, force=True)
    with whole_file(output / CONFIG, force=True) as temporary:
        temporary.write_text(config.to_json(), "utf-8")
    return heads
