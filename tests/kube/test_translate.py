"""Every answer of the API server becomes one of our errors, in words that repeat no credential."""

import http

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_kube import errors
from sightline_kube.translate import BY_REASON, BY_STATUS, error_class, error_of, without_credentials

ALL = set(errors.ClusterError.__subclasses__())


def test_every_error_of_the_tree_comes_from_some_answer() -> None:
    assert {*BY_STATUS.values(), *BY_REASON.values()} == ALL


@pytest.mark.parametrize("status", [status.value for status in http.HTTPStatus if status >= 300] + [0, 299, 599, 999])
def test_every_status_has_a_class(status: int) -> None:
    assert error_class(status) in ALL
    if status >= 500:
        assert error_class(status) is errors.UnavailableError


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        (409, "AlreadyExists", errors.AlreadyExistsError),
        (409, "Conflict", errors.ConflictError),
        (410, "Expired", errors.GoneError),
        (410, "Gone", errors.GoneError),
        (422, "Invalid", errors.InvalidError),
        (403, "Forbidden", errors.ForbiddenError),
        (429, "TooManyRequests", errors.UnavailableError),
        (500, "InternalError", errors.UnavailableError),
        (504, "Timeout", errors.UnavailableError),
    ],
)
def test_reasons_of_kubernetes(status: int, reason: str, expected: type[errors.ClusterError]) -> None:
    assert type(error_of(status, {"reason": reason})) is expected


def test_an_apply_with_another_uid_is_a_conflict() -> None:
    body = {"reason": "Invalid", "details": {"causes": [{"field": "metadata.uid"}]}}
    assert type(error_of(422, body)) is errors.ConflictError


def test_an_apply_with_an_unknown_field_is_invalid() -> None:
    body = {"message": "failed to create typed patch object (a/b; c): .spec.sauce: field not declared in schema"}
    assert type(error_of(500, body)) is errors.InvalidError


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        ({}, {"Retry-After": "3"}, 3.0),
        ({"details": {"retryAfterSeconds": 5}}, {}, 5.0),
        ({"details": {"retryAfterSeconds": 5}}, {"Retry-After": "3"}, 3.0),
        ({"details": None}, {}, None),
        ({}, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        # What stands before an API server, and says so for hours, must not put watches to sleep for hours.
        ({}, {"Retry-After": "86400"}, 60.0),
        ({}, {"Retry-After": "inf"}, 60.0),
        ({}, {"Retry-After": "-5"}, 0.0),
        ({}, {"Retry-After": "nan"}, 0.0),
    ],
)
def test_retry_after(body: dict[str, object], headers: dict[str, str], expected: float | None) -> None:
    error = error_of(503, body, headers)
    assert isinstance(error, errors.UnavailableError)
    assert error.retry_after == expected


def test_a_message_says_what_was_tried_and_what_was_answered() -> None:
    assert str(error_of(404, {"message": 'pods "a" not found'}, what="get pods")) == 'get pods: pods "a" not found'
    assert str(error_of(502, {})) == "HTTP 502"


@pytest.mark.parametrize(
    "url", ["rtsp://admin:hunter2@host/x", "rtsp://admin:hun/ter2@host", "https://hunter2@host", "rtsp://u:hunter2@h@x"]
)
def test_credentials_do_not_pass(url: str) -> None:
    text = without_credentials(f'spec.url: Invalid value: "{url}": no, because "https://example.org/a"')
    assert "hunter2" not in text
    assert "hun/ter2" not in text
    assert "https://example.org/a" in text


@given(st.text(st.sampled_from("ab:/@\"' <>"), max_size=40))
def test_removing_credentials_twice_changes_nothing(text: str) -> None:
    assert without_credentials(without_credentials(text)) == without_credentials(text)
