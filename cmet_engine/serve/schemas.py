"""What the engine answers, and how that is described; requests are the specifications of `cmet_engine.spec`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

StateName = Literal["queued", "running", "done", "failed", "cancelled"]


class JobAnswer(BaseModel):
    """Where a job stands."""

    id: str
    kind: str
    client: str
    state: StateName
    stage: str
    done: int
    total: int | None
    eta_seconds: float | None
    attempts: int
    queued_at: float
    started_at: float | None
    finished_at: float | None
    error: str | None
    result: dict[str, Any]
    files: dict[str, str]


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    error: Annotated[str, Field(description="one sentence that says what was wrong and what to do")]


def _refusal(text: str) -> dict[str, Any]:
    """How a refusal is described: FastAPI would give it the content type of the route's good answer."""
    return {"description": text, "content": {"application/json": {"schema": ErrorAnswer.model_json_schema()}}}


Responses = dict[int | str, dict[str, Any]]
REFUSALS: Responses = {
    400: _refusal("The body is not what its Content-Type says."),
    401: _refusal("The token is missing or wrong."),
    403: _refusal("The request comes from a web page, or through another name of this machine."),
    408: _refusal("The body did not arrive in time."),
    413: _refusal("The request is too large."),
    424: _refusal("The work needs weights, a package or a device that this machine does not have."),
    422: _refusal("A field is wrong, or a path may not be used."),
    500: _refusal("A fault of the engine."),
    507: _refusal("The engine's disk is full."),
}
FRAMEWORK = {404: "There is nothing at this address.", 405: "This address does not take that method."}
UNKNOWN: Responses = {404: _refusal("There is no such job or file.")}
BUSY: Responses = {429: _refusal("Too much is waiting already.")}
PICTURE: Responses = {200: {"content": {"image/jpeg": {}}, "description": "A picture."}}
ANY_FILE: Responses = {200: {"content": {"*/*": {}}, "description": "The file."}}


class LiveAnswer(BaseModel):
    """A clip's coefficients at a frame, as they are and as edited, by name."""

    frame: int
    time: float
    source: dict[str, float]
    edited: dict[str, float]


Curves = dict[str, list[float]]


class CurvesAnswer(BaseModel):
    """What a timeline shows of an edit; times in seconds.

    `source` and `edited` are curves by name, with a value for each of `times`. `waveform` holds the loudest amplitude, 0 to 1, of
    stretches of equal length over the whole clip; `speech` start and end of what is spoken; `words` where the voice sinks for a moment,
    which is between words as a rule.
    """

    times: list[float]
    source: Curves
    edited: Curves
    blinks: list[float]
    cuts: list[float]
    waveform: list[float]
    speech: list[tuple[float, float]]
    words: list[float]


class ClipAnswer(BaseModel):
    """What a clip is: size as displayed, `rate` as an exact fraction, `duration` in seconds, timecode of the first frame or ""."""

    path: str
    width: int
    height: int
    fps: float
    rate: str
    frames: int | None
    duration: float
    has_audio: bool
    timecode: str
    warnings: list[str]


class FolderAnswer(BaseModel):
    """Folders and clips in a folder that the engine may use, as paths; `path` is null for the list of those folders itself."""

    path: str | None
    folders: list[str]
    clips: list[str]
