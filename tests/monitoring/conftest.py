"""What the tests of the monitors share."""

import uuid

import pytest


@pytest.fixture(params=["file"])
def storage(request, tmp_path):
    """URI of empty storage: a folder; with `everywhere` also this process's memory and a bucket."""
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"
    return tmp_path.as_uri() if request.param == "file" else f"memory://{uuid.uuid4().hex}"
