"""Records are uploaded completely and once, and again after a failure."""

from __future__ import annotations

import boto3
import pytest
from moto import mock_aws

from daybook.record import seal, upload, verification

ACCOUNT = "123456789012"


@pytest.fixture
def s3():
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="records", ObjectLockEnabledForBucket=True)
        yield client


def keys(s3) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket="records").get("Contents", [])]


def test_a_record_is_uploaded_once_and_intact_after_a_download(s3, closed_run, open_run, tmp_path):
    folder = closed_run("r1")
    open_run("r2")
    assert upload.push_pending(tmp_path, "records", s3, ACCOUNT) == upload.Pushed(("r1",))
    assert upload.push_pending(tmp_path, "records", s3, ACCOUNT) == upload.Pushed()
    assert {key.split("/", 2)[2] for key in keys(s3)} == {
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    }
    runs = tmp_path / "elsewhere/runs"
    for key in keys(s3):
        (runs / key).parent.mkdir(parents=True, exist_ok=True)
        s3.download_file("records", key, str(runs / key))
    (runs.parent / "environments").mkdir()
    signers = runs.parent / "environments/signers"
    signers.write_text((tmp_path / "environments/signers").read_text())
    assert verification.verify(runs / "staging/r1").state == verification.INTACT


def test_a_failed_upload_is_reported_and_tried_again(s3, closed_run, tmp_path):
    closed_run("r1")
    pushed = upload.push_pending(tmp_path, "not-there", s3, ACCOUNT)
    assert list(pushed.failed) == ["r1"]
    assert "NoSuchBucket" in pushed.failed["r1"]
    assert [folder.name for folder in upload.pending(tmp_path, "records", ACCOUNT)] == ["r1"]
    assert upload.push_pending(tmp_path, "records", s3, ACCOUNT).done == ("r1",)


def test_record_json_is_uploaded_last(closed_run, tmp_path):
    class Recorder:
        keys: list[str] = []  # noqa: RUF012

        def put_object(self, Key, **_):
            self.keys.append(Key)

    upload.push(closed_run("r1"), "records", Recorder())
    assert Recorder.keys[-1] == f"staging/r1/{seal.NAME}"


def test_a_record_of_another_account_is_not_uploaded(s3, closed_run, tmp_path):
    closed_run("r1")
    assert upload.push_pending(tmp_path, "records", s3, "210987654321") == upload.Pushed()
    assert keys(s3) == []
