"""The states that earlier versions left behind, from the archives of tests/states: how tests open them."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

BUCKET = "nightshift"
ARCHIVES = sorted((Path(__file__).parents[1] / "states").glob("*.tar.xz"))
each_state = {"params": ARCHIVES, "ids": [archive.name.partition(".")[0] for archive in ARCHIVES]}


@dataclass(frozen=True)
class State:
    """An unpacked archive: `bucket`, `apps`, `artifacts`, `airflow.db` and `mlflow.db` in a folder.

    Its storage is where it was when it was made, below a prefix of its own, so that no address in it has to change.
    """

    name: str
    folder: Path

    @property
    def storage(self) -> str:
        return f"s3://{BUCKET}/{self.name}/storage"

    def give_back(self, below: str = "") -> None:
        """Make the tests' bucket hold, below a part of the state's prefix, what the state's bucket held."""
        import boto3

        prefix, bucket = f"{self.name}/{below}", boto3.resource("s3").Bucket(BUCKET)
        bucket.objects.filter(Prefix=prefix).delete()
        for file in (self.folder / "bucket" / prefix).rglob("*"):
            if file.is_file():
                bucket.upload_file(str(file), str(file.relative_to(self.folder / "bucket")))


def unpack(archive: Path, folder: Path) -> State:
    """Unpack an archive into an empty folder."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return State(archive.name.partition(".")[0], folder)
