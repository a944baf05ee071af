"""The engine against its own OpenAPI description, with requests that schemathesis makes from it, right and wrong ones."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from running_engine import refusal

EXAMPLES = 2  # of each operation; `--long` makes it 500
OPERATIONS = 21  # as many as the description holds; a test that found none would pass


@pytest.fixture(scope="module")
def described(request) -> Iterator[Any]:
    """(schemathesis, schema, headers, file to name, ids of jobs: one done, one failed)."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs the package schemathesis (the extra 'dev')")
    engine = request.getfixturevalue("engine")
    films = engine.films
    (films / "take.csv").write_text("no track")
    (films / "take.mp4").write_text("no film")
    client = engine.client()
    jobs = [client.track(films / "take.mp4")["id"], client.render(films / "take.mp4", films / "take.csv")["id"]]
    headers = {"Authorization": f"Bearer {engine.token}"}
    document = json.loads(engine.raw("GET", "/v1/openapi.json")[1])
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{engine.port}")
    yield schemathesis, schema, headers, str(films / "take.mp4"), jobs


def test_every_operation_keeps_to_its_description(described, request):
    schemathesis, schema, headers, clip, jobs = described
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= OPERATIONS
    modes, checks = schemathesis.GenerationMode, schemathesis.checks.CHECKS
    for operation in operations:
        cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in (modes.POSITIVE, modes.NEGATIVE)))

        @settings(
            max_examples=500 if request.config.getoption("--long") else EXAMPLES, deadline=None, database=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink], derandomize=True,
        )  # fmt: skip
        @given(case=cases, real=st.booleans(), job=st.sampled_from(jobs))
        def ask(case: Any, real: bool, job: str) -> None:
            if real and isinstance(case.body, dict):  # what no generator guesses: files and jobs that are there
                for name in {"clip", "track", "source", "speech", "neutral"} & set(case.body):
                    if isinstance(case.body[name], str):
                        case.body[name] = clip
                for name in {"paths", "neutral"} & set(case.body):
                    if isinstance(case.body[name], list):
                        case.body[name] = [clip for path in case.body[name]]
            if real and "identity" in (case.path_parameters or {}):
                case.path_parameters["identity"] = job
            response = case.call(headers=headers)
            excluded = [checks.get_one("positive_data_acceptance")]
            if real or not isinstance(
                case.body, dict
            ):  # what was wrong was made right above, or lost on the way into the address
                excluded.append(checks.get_one("negative_data_rejection"))
            case.validate_response(response, excluded_checks=excluded)
            if response.status_code >= 400:
                refusal(response.content)

        ask()
